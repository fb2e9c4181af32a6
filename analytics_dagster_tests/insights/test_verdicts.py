"""Verdicts on deploys, as tables of counts."""

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analytics_dagster.insights.verdicts import DeployCounts, Judgement, Verdict, judge, judge_all

CALM = [[9, 11] * 6] * 84
BURSTY = [[60] + [4] * 11, [5] * 12] * 42


def deploy(
    before: Sequence[int] = (10,) * 12,
    after: Sequence[int] = (10,) * 6,
    *,
    history: Sequence[Sequence[int]] = CALM,
    new_items: Sequence[Sequence[int]] = (),
) -> DeployCounts:
    return DeployCounts(before=before, after=after, history=history, new_items=new_items)


def verdict(counts: DeployCounts) -> Verdict:
    return judge(counts).verdict


@pytest.mark.parametrize(
    ("after", "expected", "minutes"),
    [
        ([], Verdict.TOO_EARLY, 0),
        ([90], Verdict.TOO_EARLY, 0),
        ([10, 10], Verdict.TOO_FEW, 20),
        ([20, 22], Verdict.WORSE, 20),
        ([2, 1], Verdict.BETTER, 20),
        ([10, 10, 90, 90, 90], Verdict.TOO_FEW, 20),
        ([10] * 6, Verdict.UNCHANGED, 60),
        ([14] * 6, Verdict.UNCHANGED, 60),
        ([20] * 6, Verdict.WORSE, 60),
        ([5] * 6, Verdict.BETTER, 60),
        ([8] * 6, Verdict.UNCHANGED, 60),
        ([0] * 6, Verdict.BETTER, 60),
    ],
)
def test_the_last_look_whose_spells_are_complete_decides(after: list[int], expected: Verdict, minutes: int):
    judgement = judge(deploy(after=after))
    assert (judgement.verdict, judgement.minutes) == (expected, minutes)
    assert judgement.provisional == (minutes < 60)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([40, 40, 40, 10, 10, 10], Verdict.UNCHANGED),
        ([40, 40, 40, 20, 20, 20], Verdict.WORSE),
        ([0, 0, 0, 10, 10, 10], Verdict.UNCHANGED),
    ],
)
def test_a_change_that_does_not_last_is_none(after: list[int], expected: Verdict):
    assert verdict(deploy(after=after)) == expected


def test_the_look_after_an_hour_corrects_the_provisional_one():
    after = [40, 40, 40, 10, 10, 10]
    assert verdict(deploy(after=after[:2])) == Verdict.WORSE
    assert verdict(deploy(after=after)) == Verdict.UNCHANGED


@pytest.mark.parametrize("spell", range(6))
def test_one_burst_after_a_deploy_is_not_worse_however_high_it_is(spell: int):
    after = [10] * 6
    after[spell] = 5_000
    assert verdict(deploy(after=after)) == Verdict.UNCHANGED


@pytest.mark.parametrize("spell", range(12))
def test_one_burst_before_a_deploy_makes_nothing_better(spell: int):
    before = [10] * 12
    before[spell] = 5_000
    assert verdict(deploy(before)) != Verdict.BETTER


def test_a_history_of_bursts_asks_for_a_larger_rise():
    assert verdict(deploy(after=[19] * 6)) == Verdict.WORSE
    bursty = judge(deploy(after=[19] * 6, history=BURSTY))
    assert bursty.verdict == Verdict.TOO_FEW
    assert bursty.dispersion is not None
    assert bursty.dispersion > 5


def test_earlier_bad_deploys_do_not_hide_the_next_one():
    step = [10] * 6 + [100] * 6
    with_bad_deploys = [step if number % 12 == 0 else block for number, block in enumerate(CALM)]
    assert judge(deploy(history=with_bad_deploys)).dispersion == judge(deploy()).dispersion == 1


def test_no_occurrences_anywhere_are_too_few_and_have_no_ratio():
    assert judge(deploy([0] * 12, [0] * 6, history=[[0] * 12] * 84)) == Judgement(
        verdict=Verdict.TOO_FEW,
        minutes=60,
        provisional=False,
        dispersion=1,
        ratio=None,
        ratio_low=0,
        ratio_high=None,
        smallest_ratio=None,
        p_value=1,
    )


def test_errors_where_there_were_none_are_worse_though_no_ratio_tells_by_how_much():
    judgement = judge(deploy([0] * 12, [10] * 6, history=[[0] * 12] * 84))
    assert judgement.verdict == Verdict.WORSE
    assert (judgement.ratio, judgement.ratio_high) == (None, None)
    assert judgement.ratio_low is not None
    assert judgement.ratio_low > 10


def test_a_quiet_environment_is_too_few_and_says_which_rise_it_would_have_shown():
    judgement = judge(deploy([1] * 12, [1] * 6, history=[[1] * 12] * 84))
    assert judgement.verdict == Verdict.TOO_FEW
    assert judgement.smallest_ratio == pytest.approx(2.9, abs=0.3)


@pytest.mark.parametrize(("blocks", "expected"), [(0, Verdict.TOO_FEW), (11, Verdict.TOO_FEW), (12, Verdict.WORSE)])
def test_less_than_a_day_of_history_is_too_few_whatever_came_after(blocks: int, expected: Verdict):
    judgement = judge(deploy(after=[90] * 6, history=CALM[:blocks], new_items=[[80] * 6]))
    assert judgement.verdict == expected
    assert judgement.ratio == 9
    assert (judgement.dispersion is None) == (judgement.p_value is None) == (blocks < 12)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ([4, 4, 4, 4, 4, 4], Verdict.WORSE),
        ([0, 0, 6, 6, 6, 6], Verdict.WORSE),
        ([6, 6, 6, 0, 6, 0], Verdict.WORSE),
        ([3, 3, 3, 3, 4, 4], Verdict.UNCHANGED),
        ([12, 12, 12, 0, 0, 0], Verdict.UNCHANGED),
        ([6, 6, 6, 6, 0, 0], Verdict.UNCHANGED),
        ([0, 0, 0, 12, 12, 12], Verdict.UNCHANGED),
    ],
)
def test_a_new_item_is_worse_if_it_is_frequent_and_lasts(item: list[int], expected: Verdict):
    assert verdict(deploy(new_items=[[1] * 6, item])) == expected


@pytest.mark.parametrize(("total", "expected"), [(9, Verdict.TOO_FEW), (10, Verdict.WORSE)])
def test_a_new_item_needs_ten_occurrences_in_a_quiet_environment(total: int, expected: Verdict):
    item = [2, 2, 2, 2, 1, total - 9]
    assert verdict(deploy([0] * 11 + [1], item, history=[[0] * 12] * 84, new_items=[item])) in (expected, Verdict.WORSE)
    assert verdict(deploy([1] * 12, [1] * 6, history=[[1] * 12] * 84, new_items=[item])) == expected


def test_new_items_wait_for_the_look_after_an_hour():
    assert verdict(deploy(after=[10] * 5, new_items=[[10] * 5])) == Verdict.TOO_FEW
    assert verdict(deploy(after=[10] * 6, new_items=[[10] * 6])) == Verdict.WORSE


def test_the_figures_are_those_of_the_exact_binomial_test():
    judgement = judge(deploy(after=[20] * 6))
    exact = stats.binomtest(120, 240, 1 / 3, alternative="greater")
    interval = stats.binomtest(120, 240).proportion_ci(0.95)
    assert (judgement.dispersion, judgement.ratio) == (1, 2)
    assert judgement.p_value == pytest.approx(2 * exact.pvalue)
    assert judgement.ratio_low == pytest.approx(2 * interval.low / (1 - interval.low))
    assert judgement.ratio_high == pytest.approx(2 * interval.high / (1 - interval.high))


def test_a_dispersion_of_four_leaves_a_quarter_of_the_counts():
    half_hours_that_differ = ([2] * 3 + [6] * 3) * 2
    judgement = judge(deploy([30] * 12, [60] * 6, history=[half_hours_that_differ] * 84))
    exact = stats.binomtest(360 // 4, 720 // 4, 1 / 3, alternative="greater")
    assert judgement.dispersion == pytest.approx(4)
    assert judgement.p_value == pytest.approx(2 * exact.pvalue)


def test_many_deploys_are_judged_as_each_alone_and_in_their_order():
    deploys = [
        deploy(after=[20] * 6),
        deploy(after=[]),
        deploy(after=[20] * 3, history=BURSTY),
        deploy([0] * 12, [0] * 6),
        deploy(history=CALM[:20]),
        deploy(after=[20] * 2, history=CALM[:5]),
    ]
    assert judge_all(deploys) == [judge(each) for each in deploys]
    assert judge_all([]) == []


def test_two_thousand_deploys_with_a_week_of_history_take_less_than_a_second():
    history = [[number % 7, *range(11)] for number in range(84)]
    deploys = [deploy(history=history, new_items=[[1] * 6] * 3) for _ in range(2_000)]
    judge(deploys[0])
    began = time.process_time()
    judge_all(deploys)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"before": [1] * 11}, "before must have 12 numbers, not 11."),
        ({"after": [1] * 7}, "after must have at most 6 numbers, not 7."),
        ({"history": [[1] * 6]}, "Each block of history must have 12 numbers."),
        ({"new_items": [[1] * 5]}, "Each new item must have as many numbers as after has, 6."),
    ],
)
def test_counts_of_another_length_are_refused(counts: dict[str, list[int]], message: str):
    with pytest.raises(ValueError, match=message):
        deploy(**counts)


spells = st.integers(min_value=0, max_value=40)


@given(
    before=st.lists(spells, min_size=12, max_size=12),
    after=st.one_of(st.lists(spells, min_size=2, max_size=2), st.lists(spells, min_size=6, max_size=6)),
    history=st.sampled_from([CALM, BURSTY]),
    data=st.data(),
)
def test_more_occurrences_after_a_deploy_never_make_it_look_better(before, after, history, data):
    more = [count + data.draw(st.integers(min_value=0, max_value=20)) for count in after]
    order = [Verdict.BETTER, Verdict.TOO_FEW, Verdict.UNCHANGED, Verdict.WORSE]
    of_fewer, of_more = (verdict(deploy(before, counts, history=history)) for counts in (after, more))
    assert order.index(of_fewer) <= order.index(of_more)


@given(
    before=st.lists(spells, min_size=12, max_size=12),
    after=st.lists(spells, min_size=6, max_size=6),
    history=st.sampled_from([CALM, BURSTY]),
)
def test_the_interval_holds_the_ratio_and_excludes_1_where_the_rate_changed(before, after, history):
    judgement = judge(deploy(before, after, history=history))
    if judgement.ratio is not None:
        assert judgement.ratio_low <= judgement.ratio
        assert judgement.ratio_high is None or judgement.ratio <= judgement.ratio_high
    if judgement.verdict == Verdict.WORSE:
        assert judgement.ratio_low > 1
    if judgement.verdict == Verdict.BETTER:
        assert judgement.ratio_high < 1
