"""What became of predictions and truth, against cases worked out by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from squares import THREE, record, result

from segcore.evaluation.instance import InstanceEvaluator
from segcore.report.counts import calibration, class_counts, confusion, curve, scored
from segcore.report.outcome import (
    DUPLICATE,
    EXCUSED,
    INVENTED,
    MISSED,
    OUTLINE,
    RIGHT,
    WRONG_CLASS,
    badness,
    outcome_of,
    suspicions,
)
from segcore.report.segments import compare_as

CAT, DOG, OTHER = range(3)


def outcome(truth, predictions, metadata=THREE, kind="instance", name="a.png"):
    compare = compare_as(kind, metadata)
    return outcome_of(compare(result(predictions), record(Path(name), truth)), name)


def test_each_cause_is_told_from_the_others():
    found = outcome(
        [(CAT, 0, 10), (DOG, 20, 30), (CAT, 40, 50)],
        [
            (CAT, 0, 9, 0.9),  # 90 of 100 pixels
            (CAT, 0, 6, 0.8),  # 60 of 100, of what is found already
            (CAT, 20, 29, 0.7),  # a dog
            (CAT, 46, 56, 0.6),  # 40 of 160: the right class, a poor outline
            (DOG, 40, 44, 0.55),  # 40 of 100 of another class
        ],
    )
    assert found.causes.tolist() == [RIGHT, DUPLICATE, WRONG_CLASS, OUTLINE, INVENTED]
    assert found.of.tolist() == [0, 0, 1, 2, -1]
    assert found.ious.tolist() == pytest.approx([0.9, 0.6, 0.9, 0.25, 0])
    assert found.states().tolist() == [RIGHT, WRONG_CLASS, OUTLINE]


def test_the_surer_prediction_takes_the_segment_and_the_next_one_the_next_closest():
    truth = [(CAT, 0, 10), (CAT, 5, 15)]  # they overlap
    found = outcome(truth, [(CAT, 0, 10, 0.9), (CAT, 2, 12, 0.8)])
    assert found.causes.tolist() == [RIGHT, RIGHT]  # the second: 80 of 120 taken, 70 of 130 free
    assert found.of.tolist() == [0, 1]


def test_predictions_of_low_score_count_in_curves_alone():
    found = outcome([(CAT, 0, 10)], [(CAT, 0, 10, 0.4), (DOG, 20, 30, 0.3)])
    assert found.causes.tolist() == [RIGHT, INVENTED]
    assert found.states().tolist() == [MISSED]
    counts = class_counts([found], 3)
    assert (counts.missed.tolist(), counts.predicted.tolist()) == ([1, 0, 0], [0, 0, 0])
    assert curve(scored([found]), 1).precision.tolist() == [1.0, 0.5]


def test_what_lies_on_a_crowd_of_its_class_is_excused():
    truth = [(CAT, 0, 20, True)]
    found = outcome(truth, [(CAT, 0, 10, 0.9), (DOG, 0, 10, 0.8), (CAT, 15, 30, 0.7)])
    assert found.causes.tolist() == [EXCUSED, INVENTED, INVENTED]  # the last: a third on it
    assert found.truths.size == 0 and len(scored([found]).scores) == 2


def test_classes_nobody_looked_for_are_excused_by_the_rules_of_lvis():
    lvis = replace(THREE, frequencies=("r", "c", "f"))
    image = replace(record(Path("a.png"), [(CAT, 0, 10)]), negatives=(DOG,))
    predicted = result([(CAT, 30, 40, 0.9), (DOG, 30, 40, 0.8), (OTHER, 30, 40, 0.7)])
    found = outcome_of(compare_as("instance", lvis)(predicted, image), "a")
    assert found.causes.tolist() == [INVENTED, INVENTED, EXCUSED]


def test_entities_have_no_class():
    found = outcome([(CAT, 0, 10), (DOG, 20, 30)], [(0, 20, 30, 0.9)], kind="entity")
    assert found.causes.tolist() == [RIGHT] and found.states().tolist() == [MISSED, RIGHT]


def test_images_without_truth_or_predictions_have_outcomes():
    assert outcome([], [(CAT, 0, 10, 0.9)]).causes.tolist() == [INVENTED]
    assert outcome([(CAT, 0, 10)], []).states().tolist() == [MISSED]
    assert class_counts([], 3).annotated.tolist() == [0, 0, 0]


def test_confusion_counts_each_true_segment_once():
    found = outcome(
        [(CAT, 0, 10), (DOG, 20, 30), (OTHER, 40, 50)],
        [
            (DOG, 0, 9, 0.9),  # a surer mistake about the cat
            (CAT, 0, 9, 0.8),  # which is found all the same
            (CAT, 20, 30, 0.7),
            (CAT, 54, 58, 0.6),
        ],
    )
    matrix = confusion([found], 3)
    assert matrix[:3].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    assert matrix[3].tolist() == [1, 1, 0, 0]  # invented: the cat at the end, the dog on the cat


def test_average_precision_equals_the_evaluators():
    rng, outcomes, evaluator = np.random.default_rng(3), [], InstanceEvaluator(THREE)
    for i in range(20):
        truth = [(int(rng.integers(3)), x, x + 8) for x in (0, 10, 20, 30, 40)]
        predictions = []
        for k, x, _ in truth * 2:
            shift, label = int(rng.integers(0, 5)), k if rng.random() < 0.7 else DOG
            predictions.append((label, x + shift, x + shift + 8, round(float(rng.random()), 3)))
        predictions.sort(key=lambda p: -p[3])
        outcomes.append(outcome(truth, predictions, name=f"{i:02d}"))
        evaluator.update(result(predictions), record(Path(f"{i:02d}"), truth))
    annotated = class_counts(outcomes, 3).annotated.tolist()
    predictions = scored(outcomes)
    areas = [curve(predictions, count, k).area for k, count in enumerate(annotated)]
    assert 100 * np.mean(areas) == pytest.approx(evaluator.compute()["AP50"], abs=1e-6)
    assert 0.2 < np.mean(areas) < 0.9


def test_calibration_compares_score_and_share_in_bins():
    found = outcome(
        [(CAT, 0, 10), (CAT, 20, 30)],
        [(CAT, 0, 10, 0.95), (CAT, 40, 50, 0.91), (CAT, 20, 30, 0.7), (DOG, 50, 60, 0.04)],
    )
    bins = calibration(scored([found]))
    assert bins.counts.tolist() == [1, 0, 0, 0, 0, 0, 0, 1, 0, 2]
    assert bins.confidence[[0, 7, 9]].tolist() == pytest.approx([0.04, 0.7, 0.93])
    assert bins.precision[[0, 7, 9]].tolist() == [0, 1, 0.5]
    assert np.isnan(bins.precision[1])
    assert bins.error() == pytest.approx((0.04 + 0.3 + 2 * 0.43) / 4)
    assert bins.error(0.5) == pytest.approx((0.3 + 2 * 0.43) / 3)


def test_the_best_confidence_is_where_f1_is_largest():
    found = outcome(
        [(CAT, 0, 10), (CAT, 20, 30)],
        [(CAT, 0, 10, 0.9), (CAT, 20, 30, 0.4), (CAT, 40, 50, 0.3), (DOG, 50, 60, 0.2)],
    )
    confidence, f1 = curve(scored([found]), 2).best_confidence()
    assert (confidence, f1) == (pytest.approx(0.4), 1.0)


def test_badness_is_one_minus_the_panoptic_quality_of_the_class():
    found = outcome([(CAT, 0, 10), (CAT, 20, 30)], [(CAT, 0, 8, 0.9), (DOG, 40, 50, 0.9)])
    assert badness(found) == {CAT: (pytest.approx(1 - 0.8 / 1.5), 1), DOG: (1.0, 1)}


def test_sure_contradictions_are_suspicious_and_poor_outlines_are_not():
    found = outcome(
        [(CAT, 0, 10), (CAT, 20, 30)],
        [(DOG, 0, 10, 0.9), (DOG, 40, 50, 0.95), (CAT, 26, 36, 0.99), (DOG, 50, 60, 0.7)],
    )
    assert suspicions(found) == [1, 2]  # the surest first; the poor outline is number 0
    assert found.scores[suspicions(found)].tolist() == pytest.approx([0.95, 0.9])
