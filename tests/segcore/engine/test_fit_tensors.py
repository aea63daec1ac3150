"""Rows of classes and of queries, on tensors small enough to read."""

import pytest
import torch

from segcore.contracts import ClassRows
from segcore.engine.fit_tensors import Rows, fit_tensor
from segcore.errors import WeightsError

THEIRS, OURS = ("cat", "dog", "Traffic_Light"), ("traffic light", "tree", "cat", "cow")
LAYOUTS = [
    (ClassRows(name="w"), [1, 2, 3, 9], [3, 0, 1, 0, 9]),
    (ClassRows(name="w", background="first"), [9, 1, 2, 3], [9, 3, 0, 1, 0]),
    (ClassRows(name="w", background=None), [1, 2, 3], [3, 0, 1, 0]),
    (
        ClassRows(name="w", each=2, background=None),
        [10, 11, 20, 21, 30, 31],
        [30, 31, 0, 0, 10, 11, 0, 0],
    ),
    (
        ClassRows(name="w", each=2, background="first"),
        [90, 91, 10, 11, 20, 21, 30, 31],
        [90, 91, 30, 31, 0, 0, 10, 11, 0, 0],
    ),
]


@pytest.mark.parametrize(("kind", "value", "expected"), LAYOUTS)
@pytest.mark.parametrize("shape", [(), (5,), (5, 1, 1)])
def test_rows_follow_the_names_of_their_classes(kind, value, expected, shape):
    """Of a bias, of a linear layer, of a convolution; classes without a source stay as they are."""
    rows = Rows(classes=[kind], theirs=THEIRS, ours=OURS)
    given, wanted = (
        torch.tensor(x).float().view(-1, *[1] * len(shape)).expand(-1, *shape)
        for x in (value, expected)
    )
    fitted, change = fit_tensor("head.w", given, torch.zeros_like(wanted), rows)
    assert torch.equal(fitted, wanted)
    assert change == "2 of 4 classes by name"


@pytest.mark.parametrize(("kind", "value", "expected"), LAYOUTS)
def test_without_names_other_classes_keep_the_models_rows(kind, value, expected):
    given, own = torch.tensor(value).float(), torch.tensor(expected).float()
    for theirs, ours in (((), ()), ((), OURS), (THEIRS, ())):
        rows = Rows(classes=[kind], theirs=theirs, ours=ours)
        assert fit_tensor("w", given, own, rows) == (None, "3 -> 4 classes")
        fitted, change = fit_tensor("w", given, given + 1, rows)
        assert torch.equal(fitted, given)
        assert change == ""


def test_names_that_do_not_count_the_rows_are_not_followed():
    """A model of entities has one class, whatever the data set's are called."""
    rows = Rows(classes=[ClassRows(name="w")], theirs=THEIRS, ours=("entity",))
    fitted, change = fit_tensor("w", torch.tensor([1.0, 2.0]), torch.zeros(2), rows)
    assert torch.equal(fitted, torch.tensor([1.0, 2.0]))
    assert change == ""


def test_no_common_class_keeps_the_models_rows():
    rows = Rows(classes=[ClassRows(name="w")], theirs=THEIRS, ours=("x", "y", "z"))
    fitted, change = fit_tensor("w", torch.ones(4), torch.zeros(4), rows)
    assert fitted is None
    assert change == "none of 3 classes is wanted"


def test_the_same_classes_in_another_order_change_places():
    rows = Rows(classes=[ClassRows(name="w")], theirs=THEIRS, ours=("dog", "cat", "traffic light"))
    fitted, _ = fit_tensor("w", torch.tensor([1.0, 2.0, 3.0, 9.0]), torch.zeros(4), rows)
    assert fitted.tolist() == [2, 1, 3, 9]


def test_more_queries_are_copies_with_a_little_noise():
    value = torch.arange(6.0).view(2, 3)
    fitted, change = fit_tensor("q", value, torch.zeros(5, 3), Rows(queries=("q",)))
    assert torch.equal(fitted[:2], value)
    assert 0 < (fitted[2:4] - value).abs().max() < 0.1
    assert change == "2 -> 5 queries"
    fewer, _ = fit_tensor("q", value, torch.zeros(1, 3), Rows(queries=("q",)))
    assert torch.equal(fewer, value[:1])


@pytest.mark.parametrize("rows", [Rows(), Rows(classes=[ClassRows(name="w")], queries=("w",))])
def test_another_width_raises(rows):
    with pytest.raises(WeightsError, match=r"w: the checkpoint has \(4, 3\), the model \(4, 2\)"):
        fit_tensor("w", torch.ones(4, 3), torch.ones(4, 2), rows)


def test_what_a_model_computes_itself_stays():
    name = "backbone.relative_position_index"
    assert fit_tensor(name, torch.ones(4), torch.ones(9), Rows()) == (None, "")


@pytest.mark.parametrize(
    ("theirs", "ours", "their_ids", "our_ids", "expected"),
    [
        # Roboflow's root category has the name of the one class, and no object: ids tell them apart
        (["cell", "cell"], ["cell"], [0, 1], [1], [2, 9]),
        (["cell", "cell"], ["cell", "x"], [0, 1], [1, 2], [2, 0, 9]),
        (["cell", "cell"], ["cell"], [0, 1], [5], [1, 9]),  # no id is the same: the first
        (["cell", "cell"], ["x", "cell"], (), (), [0, 1, 9]),
        (["a", "part", "part"], ["part", "part", "a"], [1, 2, 3], [3, 2, 4], [3, 2, 1, 9]),
        (["a", "part", "part"], ["part", "part", "a"], [1, 2, 3], [7, 8, 9], [2, 3, 1, 9]),
    ],
)
def test_classes_of_one_name_have_rows_by_id_or_in_order(
    theirs, ours, their_ids, our_ids, expected
):
    rows = Rows(
        classes=[ClassRows(name="w")],
        theirs=theirs,
        ours=ours,
        their_ids=their_ids,
        our_ids=our_ids,
    )
    given = torch.tensor([*range(1, len(theirs) + 1), 9]).float()
    fitted, change = fit_tensor("w", given, torch.zeros(len(ours) + 1), rows)
    assert fitted is not None and fitted.tolist() == expected
    assert "which stands there more than once, by id or order" in change
