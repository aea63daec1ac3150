"""The command line: how words become arguments, and what is imported for an answer."""

import runpy
import subprocess
import sys
from inspect import signature

import click
import pytest
from click.testing import CliRunner

from segcore.cli import main as cli
from segcore.cli import predict, predict_video, prepare
from segcore.cli.flags import call, split_words
from segcore.errors import ConfigError

NAME = "coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"


@pytest.fixture
def asked(monkeypatch):
    """Run a command line; what a verb's module would be given, or what click answers."""
    given = {}

    def run(module, *, needs_config=False, **arguments):
        if "words" in arguments:
            arguments |= split_words(arguments.pop("config_file"), arguments.pop("words"))
        given.update(arguments, module=module.rpartition(".")[2])

    def ask(*words):
        given.clear()
        answer = CliRunner().invoke(cli.main, words)
        return given if answer.exit_code == 0 and given else answer.output

    monkeypatch.setattr(cli, "run", run)
    return ask


def test_a_notebooks_way_to_show_plots_is_not_asked_for(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    assert call("os", "getenv", key="MPLBACKEND") == "agg"


@pytest.mark.parametrize(
    ("words", "config", "opts"),
    [
        ((), None, []),
        ((NAME,), NAME, []),
        ((NAME, "SEED", "1"), NAME, ["SEED", "1"]),
        (("--config-file", NAME, "SEED", "1"), NAME, ["SEED", "1"]),
        ((f"--config-file={NAME}", "--opts", "SEED", "1"), NAME, ["SEED", "1"]),
        (("SEED", "1", "--config-file", NAME), NAME, ["SEED", "1"]),
        (("SEED", "1"), None, ["SEED", "1"]),
        (("mine.yaml", "SEED"), "mine.yaml", ["SEED"]),
        (
            (NAME, "INPUT.SIZE_DIVISIBILITY", "-1", "SOLVER.BASE_LR", "-.5e-3"),
            NAME,
            ["INPUT.SIZE_DIVISIBILITY", "-1", "SOLVER.BASE_LR", "-.5e-3"],
        ),
    ],
)
@pytest.mark.parametrize("verb", ["train", "eval", "analyze"])
def test_a_config_and_pairs_are_told_apart(asked, verb, words, config, opts):
    given = asked(verb, *words)
    assert (given["config_file"], given["opts"]) == (config, opts)


def test_detectron2s_flags_are_taken(asked):
    flags = "--num-gpus 8 --num-machines 2 --machine-rank 1 --dist-url tcp://a:1 --resume".split()
    given = asked("train", *flags, "--config-file", NAME, "SEED", "1")
    assert given.pop("module") == "train"
    assert given == {
        "num_gpus": 8, "num_machines": 2, "machine_rank": 1, "dist_url": "tcp://a:1",
        "resume": True, "overfit": 0, "config_file": NAME, "opts": ["SEED", "1"],
    }  # fmt: skip
    assert asked("train", "--eval-only", NAME)["module"] == "evaluate"
    assert asked("eval", "--eval-only", NAME)["module"] == "evaluate"


def test_several_inputs_are_taken(asked):
    start = ("predict", "--config-file", NAME, "--output", "out")
    given = asked(*start, "--input", "a.png", "b.png", "c", "--opts", "SEED", "1")
    assert (given["inputs"], given["opts"]) == (("a.png", "b.png", "c"), ["SEED", "1"])
    given = asked(*start, "--input", "a.png", "--input", "b.png", "--overwrite", "SEED", "1")
    assert (given["inputs"], given["opts"]) == (("a.png", "b.png"), ["SEED", "1"])
    assert "requires an argument" in asked(*start, "--input", "--overwrite")


def test_images_and_videos_go_to_programs_of_their_own(asked):
    start = ("predict", "--config-file", NAME, "--output", "out")
    for program, words in (
        (predict, ["--input", "a"]),
        (predict_video, ["--video-input", "a", "b"]),
    ):
        given = asked(*start, *words, "--opts", "SEED", "1")
        assert given.pop("module") == program.__name__.rpartition(".")[2]
        assert given.keys() == signature(program.main).parameters.keys()
    assert (given["videos"], given["window"], given["overlap"]) == (("a", "b"), 16, 4)
    assert "exclude each other" in asked(*start, "--input", "a", "--video-input", "b")
    given = asked("doctor", "one", "two", "--catalogs", "a.yaml", "b.yaml")
    assert [path.name for path in given["catalogs"]] == ["a.yaml", "b.yaml"]
    assert given["names"] == ("one", "two")
    given = asked("measure", "a.json", "coco_2017_val", "--evaluators", "instance", "contour")
    assert (given["predictions"].name, given["name"]) == ("a.json", "coco_2017_val")
    assert (given["evaluators"], given["output"]) == (("instance", "contour"), None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--num-gpu", "8", NAME], "No such option '--num-gpu'"),
        (["train", NAME, "SEED", "1", "--resum"], "No such option '--resum'"),
        (["trian", NAME], "No such command 'trian'"),
        (["analyze", NAME, "--size", "64", "-1"], "-1 is not in the range x>=1"),
        (["analyze", NAME, "--repeat", "0"], "0 is not in the range x>=1"),
        (["predict", NAME, "--output", "out"], "Missing option '--input'"),
        (["predict", NAME, "--confidence-threshold", "50"], "50.0 is not in the range 0<=x<=1"),
        (["convert-weights", "onnx", "a", "b"], "'onnx' is not one of"),
    ],
)
def test_words_that_are_not_understood_raise_usage_errors(asked, words, message):
    assert message in asked(*words)


def test_predict_and_analyze_need_a_config():
    for words in (["analyze"], ["predict", "--input", "a.png", "--output", "out"]):
        answer = CliRunner().invoke(cli.main, words)
        assert answer.exit_code == 2
        assert "Missing CONFIG" in answer.output


@pytest.fixture(autouse=True)
def path(monkeypatch):
    """A command adds to it."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize("problem", [ConfigError("no such key"), OSError("disk full")])
def test_a_users_mistake_ends_in_one_line(monkeypatch, problem):
    def main():
        raise problem

    monkeypatch.setattr("segcore.errors.main", main, raising=False)
    with pytest.raises(SystemExit, match=f"^error: {problem}$"):
        cli.run("segcore.errors")


def test_other_errors_and_statuses_pass(monkeypatch):
    def wrong():
        raise ValueError("a bug")

    def stopped():
        raise KeyboardInterrupt

    for main, expected in ((lambda: 3, 3), (stopped, 130)):
        monkeypatch.setattr("segcore.errors.main", main, raising=False)
        with pytest.raises(SystemExit) as ended:
            cli.run("segcore.errors")
        assert ended.value.code == expected
    monkeypatch.setattr("segcore.errors.main", wrong, raising=False)
    with pytest.raises(ValueError, match="a bug"):
        cli.run("segcore.errors")


@pytest.mark.parametrize("verb", ["", *cli.main.commands])
def test_help_imports_nothing_heavy(verb):
    """Half a second is not much: torch alone takes more."""
    words = [verb, "--help"] if verb else ["--help"]
    heavy = {"numpy", "omegaconf", "PIL", "rich", "scipy", "torch", "yaml"}
    program = f"""
import sys
from segcore.cli.main import main
try:
    main({words!r}, prog_name="segcore")
finally:
    print(sorted(sys.modules.keys() & {heavy!r}), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith(f"Usage: segcore {verb}".rstrip())
    assert done.stderr == "[]\n"


def test_every_verb_has_a_module_with_a_main(root):
    assert isinstance(cli.main, click.Group)
    modules = {path.stem for path in (root / "segcore/cli").glob("*.py")}
    text = (root / "segcore/cli/main.py").read_text()
    named = {part.split('"')[0] for part in text.split('"segcore.cli.')[1:]}
    assert named <= modules
    for module in named:
        assert "\ndef main(" in (root / f"segcore/cli/{module}.py").read_text()


def test_own_packages_are_found_in_the_folder_where_the_command_runs(tmp_path, monkeypatch):
    (tmp_path / "of_my_own.py").write_text("def main(*, number):\n    return number + 1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.run("of_my_own", number=3)
    assert ended.value.code == 4


def test_preparation_scripts_run_by_name(tmp_path, capfd):
    with pytest.raises(ConfigError, match="there are ade20k_ins_seg, ade20k_pan_seg"):
        prepare.main(name="ade20k", flags=[])
    assert prepare.main(name="ade20k_sem_seg", flags=["--root", str(tmp_path)]) == 1
    assert f"{tmp_path}/ADEChallengeData2016/annotations/training: no" in capfd.readouterr().err


def test_a_preparation_scripts_flags_are_its_own(asked):
    assert asked("prepare", "video_masks", "--help")["flags"] == ("--help",)
    assert "video_masks" in asked("prepare", "--help")


def test_old_names_lead_to_their_commands(root):
    names = {
        "train_net.py": "train",
        "train_net_video.py": "train",
        "tools/demo.py": "predict",
        "tools/refine.py": "refine",
        "tools/convert_weights.py": "convert_weights",
        "tools/analyze.py": "analyze",
        "tools/check_data.py": "doctor",
        "tools/bench.py": "bench",
        "tools/bench_loader.py": "bench_loader",
    }
    for path, command in names.items():
        module = runpy.run_path(str(root / path))
        assert module[command] is getattr(cli, command)
        assert (root / path).read_text().endswith(f"\n    {command}()\n")
