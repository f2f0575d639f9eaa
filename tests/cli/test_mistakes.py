"""A newcomer's mistakes, typed as they are typed: one short line says what to type instead."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

# In one process: what is measured is how long a refusal takes, not how long Python does.
_PROGRAM = """
import contextlib, io, json, sys, time
from passionsr_cli.cli.app import main

typed = []
for arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    sys.argv, began = ["passionsr", *arguments], time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    seconds = time.process_time() - began
    heavy = [name for name in ("torch", "openvino", "diffusers") if name in sys.modules]
    typed.append([code, out.getvalue(), err.getvalue(), seconds, heavy])
print(json.dumps(typed))
"""
# What is typed, the exit code, and what the line says: on stderr, or of what is no mistake stdout.
MISTAKES: list[tuple[str, int, str]] = [
    ("photo.jpg", 2, "'photo.jpg' is no command; type: passionsr upscale photo.jpg"),
    ("sample:coffee", 2, "type: passionsr upscale sample:coffee"),
    ("--model mini upscale a.jpg", 2, "type: passionsr upscale --model mini a.jpg"),
    ("upscal a.jpg", 2, "no command 'upscal'; did you mean 'upscale'?"),
    ("upscale", 2, "missing argument 'INPUT...'; see `passionsr upscale --help`"),
    ("upscale nothing.jpg", 1, "nothing.jpg: no such file"),
    ("upscale ''", 1, "an empty name: no such file"),
    ("upscale my photo.jpg", 2, "a name with spaces needs quotes: 'my photo.jpg'"),
    ("upscale folder -o out.png", 2, "out.png is the name of one image, but there are several"),
    ("upscale empty", 1, "empty: no images in this folder"),
    ("upscale a.jpg -o a.jpg", 1, "a.jpg: the result would replace its own input"),
    ("upscale a.jpg -o out.xyz", 1, "cannot write '.xyz' files"),
    ("upscale a.jpg --overwrite --skip-existing", 2, "--overwrite and --skip-existing exclude"),
    ("upscale made.jpg --skip-existing", 0, "made_x4.png is there already"),
    ("upscale made.jpg", 1, "made_x4.png: exists already; use --overwrite, --skip-existing"),
    ("upscale made.jpg --name '{name}'", 2, "--name: '{name}' is no name; it needs {stem}"),
    ("upscale made.jpg --name '{stem}_{scale'", 2, "--name: '{stem}_{scale' is no name"),
    ("upscale made.jpg --quality 5", 2, "--quality: '.png' files have none; JPEG, WebP"),
    ("upscale -dash.png", 2, "has no option -dash.png; the file of that name is ./-dash.png"),
    ("upscale sample:cofee", 1, "sample:cofee: unknown sample; did you mean 'coffee'?"),
    ("upscale a.jpg --model osediff", 1, "`passionsr models pull osediff` fetches them"),
    ("upscale a.jpg --model minni", 1, "unknown model 'minni', and no folder; did you mean 'mini"),
    ("upscale a.jpg --checkpoint nosuch", 1, "no checkpoint named 'nosuch'; known are mini-w8a8"),
    ("upscale nothing.jpg --scale 2x", 1, "nothing.jpg: no such file"),
    ("upscale nothing.jpg --scale x2.5", 1, "nothing.jpg: no such file"),
    ("upscale a.jpg --scale 2y", 2, "--scale: found '2y', expected a valid number"),
    ("upscale a.jpg --scale 20", 2, "--scale: found '20', expected less than or equal to 8"),
    ("upscale a.jpg --width wide", 2, "--width: found 'wide', expected a valid integer"),
    ("upscale a.jpg --width", 2, "option '--width' requires an argument"),
    ("upscale a.jpg --scale 2 --width 9", 2, "scale and width or height: give one of them"),
    ("upscale a.jpg --realism=much", 2, "--realism: found 'much', expected a valid number"),
    ("upscale a.jpg --device gpus", 2, "unknown device 'gpus'; use auto, cpu, cuda"),
    ("upscale a.jpg --tile -5", 2, "--tile: '-5' is no size"),
    ("upscale a.jpg --colour-fix wavelet", 2, "no option --colour-fix; did you mean '--color-fix'"),
    ("upscale a.jpg --color-fix wavlet", 2, "--color-fix: found 'wavlet', expected 'none', 'ad"),
    ("upscale a.jpg --precision int8", 2, "--precision: found 'int8', expected 'auto', 'fp32'"),
    ("upscale a.jpg --config quik", 2, "no configuration 'quik': neither a file nor a preset; did"),
    ("upscale https://example.org/a.jpg", 1, "an address, not a file; download it"),
    ("upscale 'album [2020]/*.gif'", 1, "album [2020]/*.gif: no image matches"),
    ("calibrate --bits 9", 2, "--bits: '9' is no bit width; write w6a6"),
    ("calibrate --bits 8 --method lqs", 2, "unknown method 'lqs'; did you mean 'lsq'?"),
    ("calibrate --bits W6A6 --method passionSR", 2, "did you mean 'passionsr'?"),
    ("calibrate --bits w6a6-unt", 2, "--bits: 'w6a6-unt' is no bit width"),
    ("calibrate --crop-px 64", 2, "no option --crop-px; write `crop_px: …` into a YAML file and"),
    ("calibrate --method gptq", 2, "unknown method 'gptq'; known are maxmin, passionsr"),
    (
        "calibrate mini",
        2,
        "calibrate takes no 'mini' by itself; was it meant for --model?",
    ),
    ("calibrate --images nosuch", 1, "nosuch: no such folder; --images names a folder"),
    ("calibrate --images photo.jpg", 1, "photo.jpg: a file, not a folder; --images names a folder"),
    ("calibrate --model osediff", 1, "the weights of 'osediff' are not on this machine"),
    ("calibrate --budget huge", 2, "--budget: "),
    ("evaluate --dataset RealSR", 1, "data set 'RealSR' is not in"),
    ("evaluate --dataset RaelSR", 1, "no data set 'RaelSR': neither a folder nor a known one; did"),
    ("evaluate --dataset pairs/test_HR", 1, "holds one side of pairs; give the folder above"),
    ("evaluate --dataset folder", 1, "holds one side of pairs; name the other side, too"),
    ("evaluate --dataset empty", 1, "empty holds no pairs of images; it should hold one of"),
    ("evaluate --metrics pnsr", 2, "protocol 'osediff' has no metric 'pnsr'; did you mean 'psnr'?"),
    ("evaluate --model minni", 1, "unknown model 'minni'"),
    ("evaluate --limit many", 2, "--limit: found 'many', expected a valid integer"),
    ("models list", 0, "passionsr-fp"),
    ("models", 0, "passionsr-fp"),
    ("models shwo mini", 2, "no command 'shwo'; did you mean 'show'?"),
    ("models show minni", 1, "unknown model 'minni'"),
    ("models pull mini", 1, "'mini' cannot be pulled; known are adcsr, hypir-sd2, omgsr-s-512"),
    ("checkpoints list --json", 0, '"mini-w8a8"'),
    ("checkpoints rm x", 1, "no checkpoint named 'x'; known are mini-w8a8"),
    ("checkpoints delete mini-w8a8 -y", 1, "'mini-w8a8' is part of passionsr and stays"),
    ("export mini --format onx", 2, "unknown format 'onx'; did you mean 'onnx'?"),
    ("export mini-w8", 1, "no checkpoint or model 'mini-w8'; did you mean 'mini-w8a8'?"),
    ("train", 2, "missing option '--name'; see `passionsr train --help`"),
    ("train --name x", 2, "give --photos DIR, or --from MODEL to start from one"),
    ("bench --variants w6x", 2, "unknown variant 'w6x'"),
    ("bench --model minni", 1, "unknown model 'minni'"),
    ("reproduce passionsr-tabel2", 2, "unknown table 'passionsr-tabel2'; did you mean"),
    ("reproduce qartsr-table3 --only nobody", 2, "no row is called 'nobody'"),
    ("sweep-timestep mini --timesteps a", 2, "--timesteps: 'a' is no list of numbers"),
    ("help", 0, "Make models smaller:"),
    ("help upscale", 0, "Usage: passionsr upscale [OPTIONS] INPUT..."),
    ("-h", 0, "Usage: passionsr [OPTIONS] COMMAND"),
    ("version", 0, "passionsr 0."),
    ("-V", 0, "passionsr 0."),
    ("-", 2, "'-' is no command; type: passionsr upscale -"),
    ("--model mini photo.jpg", 2, "type: passionsr upscale --model mini photo.jpg"),
    ("-i photo.jpg", 2, "passionsr has no option -i; did you mean '--install-completion'?"),
    ("UPSCALE nothing.jpg", 1, "nothing.jpg: no such file"),
    ("upscale a.jpg -m mini", 2, "no option -m; did you mean '--model'?"),
    ("upscale a.jpg -model mini", 2, "no option -model; did you mean '--model'?"),
    ("upscale a.jpg --Models mini", 2, "no option --Models; did you mean '--model'?"),
    ("upscale a.jpg -v", 2, "no option -v; see `passionsr upscale --help`"),
    ("upscale a.jpg --bits w8a8", 2, "no option --bits; it is an option of calibrate and sweep"),
    ("upscale a.jpg out.png", 2, "out.png: no such file; if it is to be the result: --output out"),
    ("upscale -o out.png", 2, "missing argument 'INPUT...'"),
    ("upscale photo.jpeg", 1, "photo.jpeg: no such file; did you mean 'photo.jpg'?"),
    ("upscale Photo", 1, "Photo: no such file; did you mean 'photo.jpg'?"),
    ("upscale folder/B.png", 1, "folder/B.png: no such file; did you mean 'folder/b.png'?"),
    ("upscale coffee", 1, "coffee: no such file; did you mean 'sample:coffee'?"),
    ("upscale nothing.jpg --format JPEG", 1, "nothing.jpg: no such file"),
    ("upscale nothing.jpg --format .tif", 1, "nothing.jpg: no such file"),
    ("upscale a.jpg --format gif", 2, "--format: found 'gif', expected 'same', 'png', 'jpg'"),
    ("upscale a.jpg --beside 2", 2, "--beside: '2' is no realism; it goes from 0 to 1"),
    ("upscale a.jpg --config zzz", 2, "neither a file nor a preset; known are ablation-lbq"),
    ("upscale a.jpg --overwrite=yes", 2, "option '--overwrite' does not take a value"),
    ("upscale none.jpg --engine dask", 2, "--engine: found 'dask', expected 'local' or 'ray'"),
    ("upscale a.jpg --watch", 2, "--watch needs a folder, and a.jpg is none"),
    ("calibrate folder", 2, "takes no 'folder' by itself; was it meant for --images?"),
    ("calibrate --resume", 2, "--resume needs --name NAME"),
    ("calibrate --name ''", 1, "'' is no checkpoint name; use letters"),
    ("calibrate --budget 0MB", 2, "--budget: '0MB' leaves nothing"),
    ("calibrate --overwrite", 2, "no option --overwrite; it is an option of upscale"),
    ("evaluate folder", 2, "takes no 'folder' by itself; was it meant for --images?"),
    ("score a.jpg folder", 1, "a.jpg and folder: give two images, or two folders"),
    ("models --json list", 0, '"name": "mini"'),
    ("models show", 2, "missing argument 'NAME'; see `passionsr models show --help`"),
    ("models add x --base nosuch", 1, "nosuch: no such file or folder"),
    ("checkpoints compare mini-w8a8 x", 1, "no checkpoint named 'x'"),
    ("checkpoints import x.pth --config a.yaml --model mini", 1, "x.pth: no such file or folder"),
    ("train --name x --photos nosuch", 1, "nosuch: no such folder; --photos names a folder of"),
    ("train --name x --photos empty", 1, "empty: no images in this folder; --photos needs some"),
    ("train --name x --from nosuch --timestep 9", 1, "unknown model 'nosuch'"),
    ("sweep minni", 1, "unknown model 'minni'"),
    ("bench --against nosuch.json", 1, "nosuch.json"),
    ("gui --port abc", 2, "--port: found 'abc', expected a valid integer"),
    ("upscale a.jpg --realism 7 --json", 2, '{\n  "error": "--realism: found'),
    ("upscale a.jpg --widht 7 --json", 2, '{\n  "error": "passionsr upscale has no option --widht'),
]


@dataclass(frozen=True)
class _Answer:
    """What a command line was answered with."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    imported: list[str]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, _Answer]:
    """The answers to all mistakes, one after the other in a folder of photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    image = Image.new("RGB", (24, 20), "teal")
    names = ("photo.jpg", "a.jpg", "my photo.jpg", "made.jpg", "made_x4.png", "folder/b.png")
    names += (
        "album [2020]/c.png",
        "pairs/test_LR/d.png",
        "pairs/test_HR/d.png",
        "empty/.e.png",
        "-dash.png",
    )
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        image.save(folder / name)
    lines = [shlex.split(line) for line, _, _ in MISTAKES]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        input=json.dumps(lines),
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        text=True,
        check=True,
    )
    found = [_Answer(*answer) for answer in json.loads(done.stdout)]
    return dict(zip((line for line, _, _ in MISTAKES), found, strict=True))


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PASSIONSR_HOME": str(folder / ".home"),
        "PASSIONSR_CACHE": str(folder / ".cache"),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "80",
    }


@pytest.mark.parametrize(("line", "code", "message"), MISTAKES, ids=[each[0] for each in MISTAKES])
def test_a_mistake_is_answered_in_one_line(
    line: str, code: int, message: str, answers: dict[str, _Answer]
) -> None:
    answer = answers[line]
    assert answer.code == code, answer
    told = answer.stdout if code == 0 or line.endswith("--json") else answer.stderr
    assert message in told
    assert answer.stdout + answer.stderr != ""
    if code:
        (error,) = answer.stderr.splitlines()
        assert error.startswith("error: ")
        assert len(error) < 400


def test_answers_wait_for_nothing_heavy(answers: dict[str, _Answer]) -> None:
    """0.6 s are wanted of a machine that does nothing else, which a test cannot ask for."""
    for line, answer in answers.items():
        assert answer.imported == [], line
        assert answer.seconds < 1.5, line
