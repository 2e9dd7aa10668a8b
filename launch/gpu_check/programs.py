"""Starts the programs of the bundle and reads what they leave."""
import array
import csv
import ctypes
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time

NO_SPEED = "the GPU of the tests has no speed"


class Outcome:
    def __init__(self, status, text, seconds):
        self.status, self.text, self.seconds = status, text, seconds

    def last_words(self):
        """The line that says why, as far as one line can."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        own = [line for line in lines if line.startswith("zerostep: ")]  # mpirun's words come behind them
        said = [line for line in lines if re.search(r"error|fail|terminat|abort|not found|refuse", line, re.I)]
        return (own or said or lines or ["it said nothing"])[-1][:400]

    def why(self):
        """What follows the name of a command that failed."""
        return "did not end in time" if self.status == 124 else f"ends with {self.status}: {self.last_words()}"


class Run:
    """What a run of `zerostep train` left in its folder."""

    def __init__(self, folder, outcome):
        self.folder, self.outcome = folder, outcome
        self.is_done = outcome.status == 0
        self.rows, self.plan = [], {}
        if self.is_done:
            with open(os.path.join(folder, "metrics.csv"), newline="") as file:
                self.rows = list(csv.DictReader(file))
            with open(os.path.join(folder, "plan.json")) as file:
                self.plan = json.load(file)

    def column(self, name):
        return [float(row[name]) for row in self.rows if row[name] != ""]

    def scalars(self):
        """Of each step of queries the scalars of its directions."""
        with open(os.path.join(self.folder, "zo_log.jsonl")) as file:
            lines = [json.loads(line) for line in file]
        return [line["scalars"] for line in lines if "scalars" in line]

    def streaming_rate(self):
        """Of a traced run on one rank whose weights rest in memory of the host and are read once a step: bytes a second of the copies to the device, while
        they are under way, after the first step. None where the trace tells of other readings."""
        with open(os.path.join(self.folder, "trace_rank0.json")) as file:
            copies = [event for event in json.load(file)["traceEvents"] if event["name"].startswith("bring ")]
        seconds = {}
        for copy in sorted(copies, key=lambda event: event["ts"]):
            seconds.setdefault(copy["name"], []).append(1e-6 * copy["dur"])
        steps = len(self.rows)
        if steps < 2 or any(len(of_unit) != steps for of_unit in seconds.values()) or not seconds:
            return None
        resting = sum(buffer["bytes"] for buffer in self.plan["buffers"] if (buffer["kind"], buffer["tier"]) == ("parameters", "host"))
        return resting * (steps - 1) / sum(sum(of_unit[1:]) for of_unit in seconds.values())

    def computing_share(self):
        """Of a traced run: the share of the time from the second step's first visit to the end of the last one's update in which the stream of computation
        works, by marks there. None where the trace tells of no two steps."""
        with open(os.path.join(self.folder, "trace_rank0.json")) as file:
            work = sorted((event["ts"], event["ts"] + event["dur"], event["name"]) for event in json.load(file)["traceEvents"]
                          if event["tid"] == "computation" and not event["name"].startswith("wait for "))
        first = work[0][2] if work else ""
        begins = [begin for begin, _, name in work if name == first]  # what each step begins with
        if len(begins) < 2:
            return None
        busy, until = 0, begins[1]
        for begin, end, _ in work:
            busy += max(0, end - max(begin, until))
            until = max(until, end)
        return busy / (until - begins[1])

    def checkpoint(self, step, kind):
        """{parameter: fp32 values} of the checkpoint after `step` steps; kind "values", or "state.0" of the optimizer's first array."""
        out = {}
        folder = os.path.join(self.folder, "checkpoints", f"step_{step:08}")
        for name in sorted(os.listdir(folder)):
            if not name.endswith(".safetensors"):
                continue
            with open(os.path.join(folder, name), "rb") as file:
                content = file.read()
            size = struct.unpack("<Q", content[:8])[0]
            for tensor, about in json.loads(content[8:8 + size]).items():
                if tensor.startswith(kind + "/") and about["dtype"] == "F32":
                    begin, end = about["data_offsets"]
                    out[tensor[len(kind) + 1:]] = array.array("f", content[8 + size + begin:8 + size + end])
        return out


def stop(process):
    """Ends a process and those that it has started."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
            process.wait(5)
            return
        except (subprocess.TimeoutExpired, ProcessLookupError):
            pass


class Programs:
    def __init__(self, bundle, out, torch, is_fake, is_short):
        self.bundle, self.torch, self.is_fake, self.is_short = bundle, torch, is_fake, is_short
        self.logs = os.path.join(out, "logs")
        os.makedirs(self.logs, exist_ok=True)
        # Runs, their checkpoints and data, and what zerostep remembers between runs; gone in the end.
        self.work = tempfile.mkdtemp(prefix="gpu_check.")
        os.environ.update(HOME=self.work, XDG_CACHE_HOME=os.path.join(self.work, "cache"))
        self.starts = None
        self.running = []
        self.fake = {}
        if is_fake:
            fake = os.path.join(bundle, "fake")
            self.fake = {"LD_PRELOAD": f"{fake}/libfake_gpu.so:{fake}/libfake_gpu_libtorch.so",
                         "LD_LIBRARY_PATH": f"{fake}:{os.environ['LD_LIBRARY_PATH']}"}

    def path(self, name):
        return os.path.join(self.bundle, "bin", name)

    def start(self):
        """Whether the program starts here."""
        if self.starts is None:
            self.starts = self.run("version", [self.path("zerostep"), "--version"], 20).status == 0
        return self.starts

    def begin(self, name, command, on_gpu=False, environment=None):
        """Starts a command whose words go to logs/NAME.log."""
        log = os.path.join(self.logs, name.replace(" ", "_") + ".log")
        with open(log, "w") as file:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=self.work, start_new_session=True,
                                       env={**os.environ, **(self.fake if on_gpu else {}), **(environment or {})})
        self.running.append(process)
        return process, log, time.monotonic()

    def end(self, begun, seconds):
        """Waits `seconds` at most, then ends the command and what it has started. Status 124: it was ended."""
        process, log, begin = begun
        try:
            status = process.wait(max(0.1, seconds))
        except subprocess.TimeoutExpired:
            status = 124
            stop(process)
        self.running.remove(process)
        with open(log, errors="replace") as file:
            return Outcome(status, file.read(), time.monotonic() - begin)

    def close(self):
        """Ends what is still running and removes what it has written."""
        for process in self.running:
            stop(process)
        shutil.rmtree(self.work, ignore_errors=True)

    def run(self, name, command, seconds, on_gpu=False, environment=None):
        return self.end(self.begin(name, command, on_gpu, environment), seconds)

    def python(self, name, script, arguments, seconds):
        """A script beside this one, which prints one JSON object as its last line. Its object, or None with the reason."""
        outcome = self.run(name, ["python3", os.path.join(os.path.dirname(os.path.abspath(__file__)), script), *arguments], seconds)
        lines = [line for line in outcome.text.splitlines() if line.startswith("{")]
        if outcome.status != 0 or not lines:
            return None, outcome.why()
        return json.loads(lines[-1]), ""

    def gpus(self):
        """How many answer here; of the GPU of the tests as many as there are to be."""
        if self.is_fake:
            return int(os.environ.get("FAKE_GPU_DEVICES", "1"))
        try:
            driver = ctypes.CDLL("libcuda.so.1")
        except OSError:
            return 0
        count = ctypes.c_int(0)
        return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0

    def write_config(self, name, config):
        """The file of a run of `config`, a dictionary, and the folder that it will have."""
        runs, folder = os.path.join(self.work, "runs"), os.path.join(self.work, "configs")
        config = json.loads(json.dumps(config))
        config.setdefault("run", {}).update(name=name, output_dir=runs, overwrite=True)
        os.makedirs(folder, exist_ok=True)
        file = os.path.join(folder, name + ".json")
        with open(file, "w") as to:
            json.dump(config, to, indent=1)
        return file, os.path.join(runs, name)

    def threads(self, count):
        """The variable that gives a rank so many threads; on the GPU of the tests one: with several LibTorch's processor adds up rows of tables in any order,
        and that GPU runs its kernels."""
        return {"OMP_NUM_THREADS": str(1 if self.is_fake else count)}

    def begin_training(self, name, config, device, ranks=1, threads=2, environment=None, of_ranks=None):
        """Begins `zerostep train` of `config`, a dictionary, on "cpu" or "cuda". `of_ranks`: variables of each rank, a dictionary for each."""
        file, folder = self.write_config(name, config)
        command = [self.path("zerostep"), "train", file, "--device", device]
        if ranks > 1:
            parts = [["-np", "1", "env", *(f"{variable}={value}" for variable, value in of_rank.items()), *command, ":"] for of_rank in of_ranks or []]
            started = [word for part in parts for word in part][:-1] or ["-np", str(ranks), *command]
            command = ["mpirun", *(["--allow-run-as-root"] if os.getuid() == 0 else []), "--oversubscribe", "--bind-to", "none", *started]
        return self.begin(name, command, device == "cuda", {**self.threads(threads), **(environment or {})}), folder

    def end_training(self, begun, seconds):
        process, folder = begun
        run = Run(folder, self.end(process, seconds))
        if run.is_done:
            shutil.copy(os.path.join(folder, "metrics.csv"), os.path.join(self.logs, os.path.basename(folder) + ".csv"))
        return run

    def train(self, name, config, device, seconds, ranks=1, threads=2):
        return self.end_training(self.begin_training(name, config, device, ranks, threads), seconds)
