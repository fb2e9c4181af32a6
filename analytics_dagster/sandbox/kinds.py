"""The kinds of errors, and the parts of the application in which they happen."""

from analytics_dagster.sandbox.model import Kind

KINDS = (
    Kind("python", "django", "linux", "KeyError", "'{part}_id'"),
    Kind("ruby", "rails", "linux", "NoMethodError", "undefined method `total' for nil in {part}"),
    Kind(
        "javascript",
        "react",
        "browser",
        "TypeError",
        "Cannot read properties of undefined (reading '{part}')",
    ),
    Kind("java", "spring", "linux", "java.lang.NullPointerException", 'Cannot invoke "{part}.getTotal()"'),
    Kind("python", "celery", "linux", "TimeoutError", "task {part}.sync exceeded 30 s"),
    Kind("php", "laravel", "linux", "QueryException", "SQLSTATE[40001]: deadlock found in table {part}s"),
    Kind("go", "gin", "linux", "*url.Error", "Get /internal/{part}: context deadline exceeded"),
    Kind("python", "flask", "linux", None, "Slow response from {part}: 2310 ms ≥ 2000 ms"),
    Kind("javascript", "node", "linux", "RangeError", "Invalid array length in {part}"),
    Kind("javascript", "vue", "browser", None, "Unhandled rejection in {part}"),
)
PARTS = (
    *("checkout", "cart", "billing", "search", "login", "profile", "invoice"),
    *("shipment", "coupon", "inbox", "report", "upload", "webhook"),
)
