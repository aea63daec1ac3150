"""The compiled op as CUDA calls it, on a GPU that is none: the operators' way to the kernels.

The kernels are run by fibers (cuda_on_cpu/), on the memory of the host that the stand-in calls a
GPU's; so their numbers are right.
"""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import gpu_stand_in
import pytest
from gpu_op import FIBERS, ROOT, build_op, package

ADDRESS = """
import ctypes, os, sys, torch
torch.ops.load_library(sys.argv[1])
found = ctypes.CDLL(sys.argv[1]).msda_current_stream_address
found.restype = ctypes.c_void_p
theirs = None
if torch.version.cuda:
    cuda = ctypes.CDLL("libtorch_cuda.so", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    theirs = ctypes.cast(cuda.aoti_torch_get_current_cuda_stream, ctypes.c_void_p).value
assert found() == theirs, (found(), theirs)
"""
SETUP = """
import os, sys, torch
os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"  # zeros are new memory, for want of a kernel
sys.modules["MultiScaleDeformableAttention"] = None  # the installed one
from segcore.nn import ms_deform_attn as door
torch.ops.load_library(sys.argv[1])
torch.manual_seed(0)
shapes = [3, 5, 2, 2]
value, reference = torch.randn(2, 19, 2, 32), torch.rand(2, 7, 1, 2)
offsets, logits = 2 * torch.randn(2, 7, 2, 2, 4, 2), torch.randn(2, 7, 2, 8)
grad = torch.randn(2, 7, 64)
forward, backward = torch.ops.segcore.deform_attn, torch.ops.segcore.deform_attn_backward
def close(found, wanted):
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-5)
def check(value_, reference_, offsets_, logits_, grad_):
    close(forward(value_, shapes, reference_, offsets_, logits_),
          forward(value, shapes, reference, offsets, logits))
    found = backward(grad_, value_, shapes, reference_, offsets_, logits_)
    for a, b in zip(found, backward(grad, value, shapes, reference, offsets, logits)):
        close(a, b)
"""
EVERYWHERE = """
on_gpu = [x.cuda() for x in (value, reference, offsets, logits, grad)]
check(*on_gpu)
def moved(x):  # a contiguous view at an odd place
    view = torch.zeros(1 + x.numel(), device="cuda")[1:].view(x.shape)
    view.copy_(x)
    assert view.data_ptr() % 8 and view.is_contiguous()
    return view
check(*(moved(x.cuda()) for x in (value, reference, offsets, logits, grad)))
torch.cuda.set_sync_debug_mode("error")
forward(on_gpu[0], shapes, *on_gpu[1:4])
backward(on_gpu[4], on_gpu[0], shapes, *on_gpu[1:4])
"""
IN_PYTORCH = """
on_gpu = [x.cuda() for x in (value, reference, offsets, logits, grad)]
torch.cuda.set_sync_debug_mode("error")  # the way of Triton's kernels, and of CUDA graphs
door._fused(door._reference, on_gpu[0], shapes, *on_gpu[1:4])
door._fused_backward(door._reference_backward, on_gpu[4], on_gpu[0], shapes, *on_gpu[1:4])
"""
MIXED = """
tensors = dict(value=value, reference=reference, offsets=offsets, logits=logits)
for name in tensors:
    for here, there in (("cpu", "cuda"), ("cuda", "cpu"), ("cuda:0", "cuda:1")):
        args = {k: x.to(there if k == name else here) for k, x in tensors.items()}
        try:
            forward(args.pop("value"), shapes, *args.values())
        except RuntimeError as error:
            assert "all tensors must be on one device" in str(error), error
            print(str(error).splitlines()[0])
try:
    backward(grad, value.cuda(), shapes, *(x.cuda() for x in (reference, offsets, logits)))
except RuntimeError as error:
    print(str(error).splitlines()[0])
"""
FALLS_BACK = """
import importlib.util, logging, os, sys, torch, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", message=".*no current CUDA context.*")
logging.basicConfig(format="%(message)s", stream=sys.stdout)
from segcore.nn import ms_deform_attn as door
found = importlib.util.find_spec
importlib.util.find_spec = lambda name: found(name) if sys.argv[1] == "triton" else None
calls = []
def forward(value, shapes, locations, weights):
    calls.append("forward")
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])
def backward(grad, value, shapes, locations, weights):
    calls.append("backward")
    return tuple(torch.empty_like(x) for x in (value, locations, weights))
door._use_triton = lambda: door._use(forward, backward)
door._reference, door._reference_backward = forward, backward
value = torch.zeros(1, 4, 1, 32, device="cuda", requires_grad=True)
offsets, logits = torch.zeros(1, 4, 1, 1, 4, 2, device="cuda"), torch.zeros(1, 4, 1, 4).cuda()
reference = torch.zeros(1, 4, 1, 2, device="cuda")
function = door.deform_attn
if sys.argv[2] == "compiled":
    function = torch.compile(function, fullgraph=True, backend="aot_eager")
for _ in range(2):
    function(value, [2, 2], reference, offsets, logits).sum().backward()
print(*calls, flush=True)
os._exit(0)  # a thread of autograd's may be about to ask for Python, which ends a program badly
"""


@pytest.fixture(scope="module")
def op(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The op with the CUDA operators, its kernels made for fibers."""
    if not shutil.which("g++"):
        pytest.skip("needs g++")
    return build_op(tmp_path_factory.mktemp("op"), kernels=FIBERS / "run.cpp")


@pytest.mark.slow
def test_the_streams_function_is_the_one_of_libtorch_cuda(op):
    done = subprocess.run([sys.executable, "-c", ADDRESS, op], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_installed_op_finds_the_streams_function():
    ops = pytest.importorskip("MultiScaleDeformableAttention")
    if not hasattr(ctypes.CDLL(ops._BINARY), "msda_current_stream_address"):
        pytest.skip("it was built without CUDA")
    binary = str(ops._BINARY)
    done = subprocess.run([sys.executable, "-c", ADDRESS, binary], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_cuda_equals_cpu_also_for_views_at_odd_places_and_never_waits(op, stand_in):
    gpu_stand_in.run(stand_in, SETUP + EVERYWHERE, op)


@pytest.mark.slow
def test_arithmetic_in_front_of_the_kernels_never_waits(op, stand_in):
    gpu_stand_in.run(stand_in, SETUP + IN_PYTORCH, op)


@pytest.mark.slow
def test_tensors_of_several_devices_raise(op, stand_in):
    said = gpu_stand_in.run(stand_in, SETUP + MIXED, op, gpus=2).splitlines()
    assert len(said) == 13
    assert "value is on cuda:0 but locations are on cpu" in said[0]
    assert "value is on cuda:1 but locations are on cuda:0" in said[2]
    assert "value is on cpu but the reference is on cuda:0" in said[3]
    assert "the gradient is on cpu" in said[-1]


@pytest.mark.slow
def test_without_libtorch_cuda_the_op_says_so(op, stand_in, tmp_path):
    source = tmp_path / "where.cpp"
    source.write_text(
        f'#include "{ROOT}/ops/csrc/current_stream.h"\n'
        'extern "C" bool missing() { return !msda::current_stream_function(); }\n'
    )
    library = tmp_path / "where.so"
    command = ["g++", "-std=c++17", "-shared", "-fPIC", source, "-o", library, "-ldl"]
    subprocess.run(command, check=True)
    code = f"import ctypes; assert ctypes.CDLL({str(library)!r}).missing()"  # no torch here
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with the op, its kernels idle."""
    return package(tmp_path_factory.mktemp("op"))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["as it is", "compiled"])
@pytest.mark.parametrize(
    ("other", "ending"), [("triton", "Triton's take over"), ("none", "PyTorch alone takes over")]
)
def test_kernels_that_cannot_run_are_replaced_and_one_line_says_so(
    installed, stand_in, monkeypatch, other, ending, way
):
    monkeypatch.setenv("PYTHONPATH", f"{installed}:{ROOT}")
    monkeypatch.setenv("CUDA_PROBLEM", "no kernel image")
    said = gpu_stand_in.run(stand_in, FALLS_BACK, other, way).splitlines()
    assert len(said) == 2
    assert "the compiled kernels cannot run on Stand-in 0 (no kernel image)" in said[0]
    assert ending in said[0]
    assert said[1] == "forward backward forward backward"


@pytest.mark.slow
def test_kernels_that_can_run_stay_and_nothing_is_said(installed, stand_in, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{installed}:{ROOT}")
    assert gpu_stand_in.run(stand_in, FALLS_BACK, "triton", "as it is") == "\n"


@pytest.mark.slow
def test_an_op_without_cuda_says_why(installed, stand_in, monkeypatch):
    note = installed / "MultiScaleDeformableAttention/without_cuda.txt"
    note.write_text("nvcc says: error\n")
    monkeypatch.setenv("PYTHONPATH", f"{installed}:{ROOT}")
    said = gpu_stand_in.run(stand_in, FALLS_BACK, "triton", "as it is").splitlines()
    note.unlink()
    assert "(they were built without CUDA, as nvcc says: error); Triton's" in said[0]


@pytest.mark.slow
def test_an_op_of_before_is_not_called_on_cuda(installed, stand_in, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{installed}:{ROOT}")
    forget = "import MultiScaleDeformableAttention as old\ndel old.cuda_problem\n"
    said = gpu_stand_in.run(stand_in, forget + FALLS_BACK, "triton", "as it is").splitlines()
    assert "(they are of an older version: pip install ./ops); Triton's" in said[0]
