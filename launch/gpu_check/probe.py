"""What a machine has, and whether kernels compute there what they compute on the processor: the stages probe and kernels."""
import ctypes
import glob
import json
import os
import re
import shutil

from programs import NO_SPEED


def probe(stage, programs):
    """What machine this is, whether every library is found, the rates that others are compared with."""
    if shutil.which("nvidia-smi"):
        asked = programs.run("nvidia-smi", ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"], 10)
        gpus = [line for line in asked.text.splitlines() if line.strip()]
        stage.figure("GPUs", len(gpus))
        stage.figure("GPU, driver, memory, capability", gpus[0] if gpus else "none")
    else:
        stage.skip("the GPU's name and driver", "there is no nvidia-smi")
    if programs.gpus() == 0:
        stage.fail("no GPU answers: the driver's libcuda.so.1 is not there, does not start, or has no device")
    about = os.path.join(programs.torch, "version.py")
    about = open(about).read() if os.path.exists(about) else ""
    torch, cuda = (re.search(rf"^{name}\b[^='\n]*=\s*'([^']*)'", about, re.M) for name in ("__version__", "cuda"))
    stage.figure("LibTorch", torch.group(1) if torch else "unknown")
    stage.figure("CUDA of LibTorch", cuda.group(1) if cuda else "unknown")
    if torch and not torch.group(1).startswith("2.11."):
        stage.fail(f"LibTorch is {torch.group(1)}; the program is built for 2.11")
    if cuda and not cuda.group(1).startswith("13."):
        stage.fail(f"LibTorch is for CUDA {cuda.group(1)}; the program is built for CUDA 13")
    # LibTorch's operators for GPUs are opened when a run takes one.
    operators = os.path.join(programs.torch, "lib", "libtorch_cuda.so")
    if not os.path.exists(operators):
        stage.fail(f"there is no {operators}: this PyTorch is one without CUDA")
    for path in [*map(programs.path, ("zerostep", "libzerostep_cuda.so", "cuda_tests", "cuda_model_tests", "cuda_bench")), operators]:
        name = os.path.basename(path)
        linked = programs.run(f"ldd {name}", ["ldd", path], 10)
        missing = sorted({line.strip() for line in linked.text.splitlines() if "not found" in line})
        stage.figure(f"libraries that {name} does not find", len(missing))
        for line in missing:
            stage.fail(f"{name}: {line}")
    version = programs.run("version", [programs.path("zerostep"), "--version"], 20)
    if version.status == 0:
        stage.figure("zerostep", version.text.strip().splitlines()[-1])
    else:
        stage.fail(f"the program does not start: {version.last_words()}")
        check_noise_alone(stage, programs)
    report_nccl(stage, programs)
    if programs.is_fake:
        stage.skip("copy and GEMM ceilings", NO_SPEED)
    elif stage.has_time("copy and GEMM ceilings", 5):
        found, why = programs.python("ceilings", "ceilings.py", [], stage.left())
        if found is None:
            stage.skip("copy and GEMM ceilings", why)
        for name, value in (found or {}).items():
            stage.figure(name, value)


def check_noise_alone(stage, programs):
    """kernel_check.cu, where the program does not start."""
    compilers = [shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc", os.path.join(programs.torch, "../nvidia/cu13/bin/nvcc")]
    nvcc = next((path for path in compilers if path and os.path.exists(path)), None)
    if nvcc is None:
        return stage.skip("kernel_check.cu", "there is no nvcc to build it")
    sources = os.path.join(programs.bundle, "sources")
    built = programs.run("kernel_check build", [nvcc, "-std=c++20", "-fmad=false", "-arch=native", "-I" + sources, "-o", os.path.join(programs.work, "kernel_check"),
                                                os.path.join(sources, "launch", "kernel_check.cu")], 20)
    if built.status != 0:
        return stage.fail(f"kernel_check.cu does not compile: {built.last_words()}")
    done = programs.run("kernel_check", [os.path.join(programs.work, "kernel_check")], 10)
    stage.figure("kernel_check.cu", "bits are the host's" if done.status == 0 else done.last_words())
    if done.status != 0:
        stage.fail(f"kernel_check.cu: {done.last_words()}")


def report_nccl(stage, programs):
    """The library of NCCL that the program opens, beside the header that it was compiled with."""
    with open(os.path.join(programs.bundle, "nccl_header.txt")) as file:
        header = int(file.read())
    found = glob.glob(os.path.join(programs.torch, "../nvidia/*/lib/libnccl.so.2"))
    path = os.path.join(programs.bundle, "fake", "libfake_gpu.so") if programs.is_fake else found[0] if found else "libnccl.so.2"
    version = ctypes.c_int()
    try:
        ctypes.CDLL(path).ncclGetVersion(ctypes.byref(version))
    except OSError as error:
        return stage.note(f"there is no NCCL, without which collectives of GPUs pass through the host: {error}")
    compare_nccl(stage, header, version.value)


def compare_nccl(stage, header, library):
    def major(code):
        return code // (1000 if code < 10000 else 10000)  # since 2.9 the other way

    def shown(code):
        return ".".join(map(str, (major(code), code // 100 % (10 if code < 10000 else 100), code % 100)))

    stage.figure("NCCL: header", shown(header))
    stage.figure("NCCL: library", shown(library))
    if major(header) != major(library):
        stage.fail(f"NCCL's library is {shown(library)}; the program is built for {major(header)}")
    elif header != library:
        stage.note(f"NCCL's library is {shown(library)}; the program was compiled with the header of {shown(header)}")


def kernels(stage, programs):
    """The tests of kernels on the device; then within compute-sanitizer."""
    num_tests = num_failed = 0
    for program, some in (("cuda_tests", "CudaKernels.Casts:HostOperands.*"), ("cuda_model_tests", "ModelKernels.Dropout*:ModelKernels.Swiglu*")):
        results = os.path.join(programs.logs, f"{program}.json")
        if os.path.exists(results):
            os.remove(results)
        command = [programs.path(program), f"--gtest_output=json:{results}"] + ([f"--gtest_filter={some}"] if programs.is_short else [])
        done = programs.run(program, command, stage.left(), on_gpu=True)
        if os.path.exists(results):
            with open(results) as file:
                found = json.load(file)
            tests = [test for suite in found["testsuites"] for test in suite["testsuite"]]
            failed = [f"{test['classname']}.{test['name']}: {test['failures'][0]['failure'].splitlines()[-1]}" for test in tests if test.get("failures")]
            num_tests += len(tests)
            num_failed += len(failed)
            for failure in failed:
                stage.fail(failure)
        if done.status != 0:
            stage.fail(f"{program} {done.why()}")
    stage.figure("tests", num_tests, least=1)
    stage.figure("tests that fail", num_failed)
    sanitizer = shutil.which("compute-sanitizer") or next(iter(glob.glob("/usr/local/cuda/bin/compute-sanitizer")), None)
    for tool in ("memcheck", "racecheck"):
        if programs.is_fake:
            stage.skip(f"compute-sanitizer {tool}", "the GPU of the tests runs no code of a device")
        elif sanitizer is None:
            stage.skip(f"compute-sanitizer {tool}", "it is not installed here")
        elif stage.has_time(f"compute-sanitizer {tool}", 3):
            tests = "CudaKernels.Casts:CudaKernels.DrawsNoise:CudaKernels.Perturbs:CudaKernels.SumsInAnOrderOfTheirOwn:CudaKernels.LowRankDirections"
            checked = programs.run(f"sanitizer {tool}", [sanitizer, "--tool", tool, "--error-exitcode", "9", programs.path("cuda_tests"),
                                                         f"--gtest_filter={tests}"], stage.left())
            errors = re.findall(r"(?:ERROR SUMMARY|RACECHECK SUMMARY): (\d+)", checked.text)
            if checked.status == 124:
                stage.skip(f"compute-sanitizer {tool}", "it did not end in time")
            elif not errors:
                stage.skip(f"compute-sanitizer {tool}", f"it does not work here: {checked.last_words()}")
            else:
                stage.figure(f"errors of compute-sanitizer {tool}", int(errors[-1]), most=0)
