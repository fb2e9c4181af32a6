"""The study of the verdicts: its processes are what they say, and its published figures are current and meet limits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analytics_dagster.insights.rates import LOOKS, POWER, compare
from analytics_dagster_tests.study import report
from analytics_dagster_tests.study.__main__ import DOCUMENT, RESULTS
from analytics_dagster_tests.study.plots import draw_plots
from analytics_dagster_tests.study.processes import BAD_DEPLOYS, PROCESSES, SCENARIOS, STEADY, Process, draw_counts
from analytics_dagster_tests.study.results import Results, read_results
from analytics_dagster_tests.study.simulation import RATES, simulate
from analytics_dagster_tests.study.thresholds import FALSE_ALARMS, judge

PUBLISHED = read_results(RESULTS)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_a_process_has_the_rate_and_the_variance_that_it_states(process: Process):
    counts = draw_counts(process, np.full((2_000, 60), 120.0), np.random.default_rng(1))
    assert counts.mean() == pytest.approx(20, rel=0.02)
    assert counts.var() / counts.mean() == pytest.approx(process.variance, rel=0.1)


def test_equal_seeds_give_equal_cells():
    process = PROCESSES[-1]
    first, second = (
        list(simulate(process, 10, scenarios=SCENARIOS, deploys=50, generator=np.random.default_rng(3)))
        for _ in range(2)
    )
    assert first == second


def test_the_published_figures_meet_every_threshold_in_every_scenario():
    judged = list(judge(PUBLISHED))
    assert len(judged) == 4
    assert [each for each in judged if not each.met] == []
    assert PUBLISHED.deploys >= 2_000
    places = [(cell.process, cell.rate, cell.scenario) for cell in PUBLISHED.cells]
    assert places == [(process.name, rate, each.name) for process in PROCESSES for rate in RATES for each in SCENARIOS]


@pytest.mark.parametrize("process", [PROCESSES[0], PROCESSES[3]], ids=lambda process: process.name)
def test_the_published_figures_are_those_of_the_rule(process: Process):
    generator = np.random.default_rng([PUBLISHED.seed, PROCESSES.index(process), 60])
    (cell,) = simulate(process, 60, scenarios=[STEADY], deploys=PUBLISHED.deploys, generator=generator)
    (published,) = [
        each for each in PUBLISHED.in_scenario(STEADY.name) if (each.process, each.rate) == (process.name, 60)
    ]
    for shares in (lambda each: each.found_early, lambda each: each.found, lambda each: each.found_falls):
        assert shares(cell) == pytest.approx(shares(published), abs=0.005), "run `make study`"
    assert (cell.worse, cell.better) == pytest.approx((published.worse, published.better), abs=0.005)


def test_the_document_has_the_published_figures():
    assert DOCUMENT.read_text() == report.current(DOCUMENT.read_text(), PUBLISHED), "run `make study`"


def test_bursts_and_earlier_bad_deploys_raise_few_false_alarms():
    process = Process(variance=8, minutes=15, share=0.5)
    (cell,) = simulate(process, 120, scenarios=[BAD_DEPLOYS], deploys=2_000, generator=np.random.default_rng(2))
    assert cell.worse <= FALSE_ALARMS
    assert cell.better <= FALSE_ALARMS
    assert cell.found["4"] > 0.8


def test_thresholds_that_are_not_met_are_told():
    cells = list(simulate(PROCESSES[7], 60, scenarios=SCENARIOS[-2:], deploys=500, generator=np.random.default_rng(4)))
    steep = Results(deploys=500, seed=4, cells=[replace(cell, limited=True) for cell in cells])
    assert [each.met for each in judge(steep)] == [False, False]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look.minutes} minutes")
def test_the_smallest_ratio_is_found_with_the_power_that_it_states(look):
    generator = np.random.default_rng(5)
    before = generator.poisson(20, (20_000, 12))
    dispersion = np.ones(len(before))
    smallest = compare(before, np.zeros((len(before), look.spells)), dispersion, look).smallest_ratio
    rates = smallest[:, None] * before.mean(axis=1, keepdims=True)
    after = generator.poisson(np.broadcast_to(rates, (len(before), look.spells)))
    assert compare(before, after, dispersion, look).rises.mean() == pytest.approx(POWER, abs=0.03)


def test_results_are_written_read_and_drawn(tmp_path: Path):
    PUBLISHED.write(tmp_path / "results.json", thresholds=[])
    assert read_results(tmp_path / "results.json") == PUBLISHED
    for file in draw_plots(PUBLISHED, tmp_path):
        assert "</svg>" in file.read_text()
        assert (RESULTS.parent / file.name).exists()
