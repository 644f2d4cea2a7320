"""The examples for schedulers in configs/: one command starts a run and resumes it."""

import configparser
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.runs import ROOT, find_last_step
from valyrian_jax.cli.train_command import train
from valyrian_jax.errors import UserError
from valyrian_jax.training.start_options import resolve_start

CONFIGS = ROOT / "configs"
# Starts two tasks as `srun` does, and ends with the largest of their exit statuses.
SRUN = """#!/usr/bin/env bash
export SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=0
SLURM_PROCID=0 "$@" & first=$!
SLURM_PROCID=1 "$@" & second=$!
echo "$first" >"$TASK"
wait "$first"; status=$?
wait "$second"; other=$?
exit $((status > other ? status : other))
"""
SCONTROL = '#!/bin/sh\necho "$@" >>"$REQUESTS"\n'


@pytest.fixture
def slurm(tmp_path: Path, small_text: Path) -> dict[str, str]:
    """The environment of a job, with stand-ins for the programs of Slurm."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NAME": "job",
        "SHARDS": str(small_text),
        "TASK": str(tmp_path / "task"),
        "REQUESTS": str(tmp_path / "requests"),
    }


@pytest.fixture
def job(slurm: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start_job(slurm, tmp_path)
    yield process
    process.kill()


def start_job(slurm: dict[str, str], directory: Path) -> subprocess.Popen[str]:
    """Start configs/slurm.sh with a small model."""
    options = ("--config", "tiny", "--train.eval_every", "20", "--train.steps", "100")
    (directory / "train.py").unlink(missing_ok=True)
    (directory / "train.py").symlink_to(ROOT / "train.py")
    command = [CONFIGS / "slurm.sh", *options, "--train.sample_every", "0"]
    return subprocess.Popen(
        command,
        cwd=directory,
        env=slurm,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.long
def test_a_job_of_slurm_that_is_stopped_asks_to_be_requeued_and_resumes(
    job: subprocess.Popen[str], slurm: dict[str, str], tmp_path: Path
) -> None:
    assert job.stdout
    assert any(line.startswith("step ") for line in job.stdout)
    os.kill(int(Path(slurm["TASK"]).read_text()), signal.SIGTERM)
    output = job.communicate(timeout=120)[0]
    assert job.returncode == 128 + signal.SIGTERM, output
    assert Path(slurm["REQUESTS"]).read_text() == f"requeue {slurm['SLURM_JOB_ID']}\n"
    run = tmp_path / "runs" / "job"
    assert 20 <= find_last_step(run) < 100

    again = start_job(slurm, tmp_path)
    output = again.communicate(timeout=120)[0]
    assert again.returncode == 0, output
    assert find_last_step(run) == 100
    assert len(Path(slurm["REQUESTS"]).read_text().splitlines()) == 1


def test_the_commands_of_the_other_examples_are_accepted() -> None:
    manifest = yaml.safe_load((CONFIGS / "jobset.yaml").read_text(encoding="utf-8"))
    [workers] = manifest["spec"]["replicatedJobs"]
    [container] = workers["template"]["spec"]["template"]["spec"]["containers"]
    command = container["command"][-1].replace("$JOB_COMPLETION_INDEX", "1")
    name = manifest["metadata"]["name"]
    options = read_options(command)
    # JobSet names a pod SET-JOB-JOBINDEX-PODINDEX, in the subdomain SET.
    assert options["coordinator"] == f"{name}-{workers['name']}-0-0.{name}:1234"
    assert options["processes"] == workers["template"]["spec"]["completions"]

    unit = configparser.ConfigParser(interpolation=None)
    unit.read(CONFIGS / "valyrian.service", encoding="utf-8")
    options |= read_options(unit["Service"]["ExecStart"])
    assert options["config_file"] == Path("long")


def read_options(command: str) -> dict[str, object]:
    """Return the options of a command with train.py, which must resume the run that it starts."""
    _, _, arguments = command.partition(" train.py ")
    options = train.make_context("train", shlex.split(arguments)).params
    assert options["resume"] == Path("auto")
    assert options["out"]
    return options


def test_auto_resumes_the_run_in_out_or_starts_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    start = resolve_start({}, "tiny", out, resume="auto")
    assert (start.out, start.resume) == (out, None)
    out.mkdir()
    (out / "config.toml").write_text("[train]\nsteps = 70\n")
    start = resolve_start({"train.eval_every": 30}, "tiny", out, resume="auto")
    assert (start.out, start.resume, start.init) == (None, out, None)
    assert (start.config.train.steps, start.config.train.eval_every) == (70, 30)
    with pytest.raises(UserError, match="pass out too"):
        resolve_start({}, "tiny", resume="auto")
