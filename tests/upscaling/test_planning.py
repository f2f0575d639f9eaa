from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from passionsr_cli.errors import ConfigError, OutputError
from passionsr_cli.upscaling.naming import Naming
from passionsr_cli.upscaling.planning import Job, Present, Refused, plan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.png", "notes.txt", ".hidden.png", "a_x4.png"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    return tmp_path / "in"


def _plan(*inputs: object, output: Path | None = None, **naming: Any) -> Any:
    return plan([str(item) for item in inputs], output, Naming(**naming))


def test_a_folder_is_its_images_without_earlier_results(folder: Path) -> None:
    first, second = _plan(folder)
    assert isinstance(first, Refused)
    assert "exists already; use --overwrite" in str(first.error)
    assert second == Job(str(folder / "b.jpg"), folder / "b_x4.png")


def test_overwriting_is_allowed_on_request(folder: Path) -> None:
    assert all(isinstance(item, Job) for item in _plan(folder, overwrite=True))


def test_one_input_goes_to_the_file_named(folder: Path, tmp_path: Path) -> None:
    assert _plan(folder / "b.jpg", output=tmp_path / "out.webp") == [
        Job(str(folder / "b.jpg"), tmp_path / "out.webp")
    ]


def test_a_date_or_a_version_is_no_format(folder: Path, tmp_path: Path) -> None:
    for name in ("2024.05", "v1.2.3"):
        (job,) = _plan(folder / "b.jpg", output=tmp_path / name)
        assert job.output == tmp_path / name / "b_x4.png"


def test_several_inputs_go_to_the_folder_named(folder: Path, tmp_path: Path) -> None:
    jobs = _plan(folder / "b.jpg", "sample:coffee", output=tmp_path / "out")
    assert [job.output for job in jobs] == [
        tmp_path / "out" / "b_x4.png",
        tmp_path / "out" / "coffee_x4.png",
    ]


def test_samples_go_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _plan("sample:coffee") == [Job("sample:coffee", Path("coffee_x4.png"))]


def test_results_may_keep_their_sources_names(folder: Path, tmp_path: Path) -> None:
    kept = _plan(folder, output=tmp_path / "out", template="{stem}.png")
    assert [job.output.name for job in kept] == ["a.png", "a_x4.png", "b.png"]
    # Beside their sources they would replace them.
    beside = _plan(folder, template="{stem}.png", overwrite=True)
    refused = [str(item.error) for item in beside if isinstance(item, Refused)]
    assert len(refused) == 2
    assert all("would replace its own input" in text for text in refused)


def test_two_inputs_never_share_a_result(folder: Path, tmp_path: Path) -> None:
    (folder / "b.webp").write_bytes(b"")
    _, second = _plan(folder / "b.jpg", folder / "b.webp", output=tmp_path / "out")
    assert isinstance(second, Refused)
    assert "is already that of" in str(second.error)
    assert "--name '{stem}_{ext}' tells them apart" in str(second.error)


def test_what_is_said_of_two_images_of_one_name_helps(tree: Path, tmp_path: Path) -> None:
    (tree / "two").mkdir()
    (tree / "two" / "a.png").write_bytes(b"")
    for inputs in ((tree / "one" / "a.png", tree / "two" / "a.png"), (tree / "one", tree / "two")):
        *_, last = _plan(*inputs, output=tmp_path / "out")
        assert "give the folder above both, or a quoted pattern such as" in str(last.error)
    for given in (tree, tree / "*" / "*.png"):
        outputs = [job.output for job in _plan(given, output=tmp_path / "out")]
        assert {tmp_path / "out" / name / "a_x4.png" for name in ("one", "two")} <= {*outputs}


def test_an_image_that_is_named_twice_is_upscaled_once(folder: Path, tmp_path: Path) -> None:
    planned = _plan(folder / "b.jpg", folder, folder / "b.jpg", output=tmp_path / "out")
    assert [Path(job.source).name for job in planned] == ["b.jpg", "a.png"]


@pytest.fixture
def linked(folder: Path, tmp_path: Path) -> Path:
    (tmp_path / "link").symlink_to(folder)
    return tmp_path / "link"


def test_one_file_has_many_paths(folder: Path, linked: Path) -> None:
    (folder / "b.webp").write_bytes(b"")
    for other in (linked, folder / ".." / "in"):
        assert len(_plan(folder / "b.jpg", other / "b.jpg")) == 1
        _, second = _plan(folder / "b.jpg", other / "b.webp")
        assert "is already that of" in str(second.error)


def test_an_image_of_two_folders_that_are_named_is_upscaled_once(
    tree: Path, tmp_path: Path
) -> None:
    outputs = [job.output for job in _plan(tree, tree / "one", output=tmp_path / "out")]
    places = ("b_x4.png", "one/a_x4.png", "one/two/c_x4.png")
    assert outputs == [tmp_path / "out" / place for place in places]


def test_an_empty_name_is_not_the_working_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (refused,) = _plan("")
    assert str(refused.error) == "an empty name: no such file"


def test_names_that_are_too_long_are_refused_alone(folder: Path, tmp_path: Path) -> None:
    long = "n" * 300
    refused, job = _plan(f"{long}.png", folder / "b.jpg", output=tmp_path / long)
    assert "no such file" in str(refused.error)
    assert isinstance(job, Job)


def test_patterns_have_an_end(tmp_path: Path) -> None:
    (refused,) = plan(["**/" * 3000 + "*"], tmp_path / "out", Naming())
    assert isinstance(refused, Refused)
    assert "a pattern of too many parts" in str(refused.error)


def test_the_input_is_never_replaced(folder: Path) -> None:
    (item,) = _plan(folder / "b.jpg", output=folder / "b.jpg", overwrite=True)
    assert isinstance(item, Refused)
    assert "would replace its own input" in str(item.error)


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_that_is_not_there_hides_no_file_behind_it(folder: Path, overwrite: bool) -> None:
    (item,) = _plan(
        folder / "b.jpg", output=folder / "nowhere" / ".." / "b.jpg", overwrite=overwrite
    )
    assert "would replace its own input" in str(item.error)
    (item,) = _plan(folder / "b.jpg", output=folder / "nowhere" / ".." / "a.png")
    assert "exists already" in str(item.error)


@pytest.mark.parametrize("naming", [{}, {"overwrite": True}, {"keep": lambda *_: True}])
def test_a_folder_is_no_result(folder: Path, naming: dict[str, Any]) -> None:
    (folder / "b_x4.png").mkdir()
    (item,) = _plan(folder / "b.jpg", **naming)
    assert "b_x4.png: a folder; call the result otherwise" in str(item.error)


@pytest.mark.skipif(not os.path.exists("/dev/fd/0"), reason="this system has no such files")
def test_a_file_without_a_suffix_is_no_place_for_a_result(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("notes")
    (tmp_path / "lost").symlink_to("nowhere")
    for name, found in (("notes", "a file"), ("lost", "a link to what is not there")):
        with pytest.raises(OutputError, match=rf"{name}: {found}, but .* such as .*{name}.png"):
            plan([str(folder / "a.png")], tmp_path / name, Naming())


def test_a_link_to_what_is_not_there_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    lost = tmp_path / "lost.png"
    lost.symlink_to("nowhere")
    (refused,) = plan([str(folder / "a.png")], lost, Naming(keep=lambda source, output: True))
    assert isinstance(refused, Refused)
    assert "lost.png: a link to what is not there; use --overwrite" in str(refused.error)
    (job,) = plan([str(folder / "a.png")], lost, Naming(overwrite=True))
    assert isinstance(job, Job)


def test_nothing_is_put_beside_what_is_no_folder_of_files(tmp_path: Path) -> None:
    for source in ("/dev/null", "/dev/fd/0"):
        (item,) = _plan(source)
        assert "no place for a result; name another with --output" in str(item.error)
        (job,) = _plan(source, output=tmp_path / "out")
        assert job.output.parent == tmp_path / "out"


def test_missing_files_and_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    missing, empty = _plan(tmp_path / "none.png", tmp_path / "empty")
    assert "no such file" in str(missing.error)
    assert "no images in this folder" in str(empty.error)


def test_several_results_need_a_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"")
    with pytest.raises(OutputError, match="several results need a folder"):
        _plan(folder, output=tmp_path / "out.png")
    with pytest.raises(OutputError, match="cannot write"):
        _plan(folder / "b.jpg", output=tmp_path / "out.xyz")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.jpg", "one/a.png", "one/two/c.tif", "one/.cache/d.png", "__MACOSX/e.png"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "tree"


def test_a_tree_is_mirrored(tree: Path, tmp_path: Path) -> None:
    outputs = [job.output for job in _plan(tree, output=tmp_path / "out")]
    places = ("b_x4.png", "one/a_x4.png", "one/two/c_x4.png")
    assert outputs == [tmp_path / "out" / place for place in places]
    assert len(_plan(tree, output=tmp_path / "out", recursive=False)) == 1


def test_results_inside_the_tree_are_no_inputs(tree: Path) -> None:
    for name in ("results/b_x4.png", "one/a_x4.png"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_bytes(b"")
    sources = [Path(item.source).name for item in _plan(tree, output=tree / "results")]
    assert sources == ["b.jpg", "a.png", "c.tif"]


def test_patterns_name_images_and_keep_their_places(tree: Path, tmp_path: Path) -> None:
    jobs = _plan(tree / "**/[ab].*", output=tmp_path / "out")
    assert [job.output for job in jobs] == [
        tmp_path / "out" / "b_x4.png",
        tmp_path / "out" / "one" / "a_x4.png",
    ]
    (refused,) = _plan(tree / "*.webp")
    assert "no image matches" in str(refused.error)


def test_names_follow_the_template(tree: Path, tmp_path: Path) -> None:
    (tree / "b.png").write_bytes(b"")
    jobs = _plan(tree, output=tmp_path, template="{stem}-{ext}.webp", recursive=False)
    assert [job.output.name for job in jobs] == ["b-jpg.webp", "b-png.webp"]


def test_links_to_folders_are_not_followed_and_dead_ones_are_named(tree: Path) -> None:
    os.symlink(tree, tree / "one" / "again")
    os.symlink(tree / "loop.png", tree / "loop.png")
    planned = {Path(item.source).name: item for item in _plan(tree)}
    assert sorted(planned) == ["a.png", "b.jpg", "c.tif", "loop.png"]
    loop = tree / "loop.png"
    assert str(planned["loop.png"].error) == (
        f"{loop}: no such file: a link to {loop}, which is not there"
    )


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tree: Path) -> None:
    (tree / "one").chmod(0)
    try:
        (refused,) = (item for item in _plan(tree) if isinstance(item, Refused))
    finally:
        (tree / "one").chmod(0o755)
    assert "one: cannot be read" in str(refused.error)


def test_a_file_in_a_folder_that_may_not_be_entered_is_not_called_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def guarded(path: Any, *rest: Any, **named: Any) -> os.stat_result:
        if str(path).startswith(f"{tmp_path}/closed/"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, *rest, **named)

    monkeypatch.setattr(os, "stat", guarded)
    (refused,) = _plan(tmp_path / "closed" / "a.png")
    assert f"a.png: no permission to look into {tmp_path}/closed" in str(refused.error)


def test_what_is_wanted_as_it_is_is_present(folder: Path) -> None:
    first, second = _plan(folder, keep=lambda source, output: output.name == "a_x4.png")
    assert first == Present(str(folder / "a.png"), folder / "a_x4.png")
    assert isinstance(second, Job)


@pytest.mark.parametrize(
    ("source", "naming", "name"),
    [
        ("a.jpg", {}, "a_x4.png"),
        ("a.jpg", {"format": "same"}, "a_x4.jpg"),
        ("a.JPG", {"format": "same"}, "a_x4.JPG"),
        ("a.jfif", {"format": "same"}, "a_x4.jpg"),
        ("a.gif", {"format": "same"}, "a_x4.png"),
        ("a.png", {"format": "webp"}, "a_x4.webp"),
        ("a.jpg", {"template": "{stem}_x4.{ext}"}, "a_x4.jpg"),
        ("a.gif", {"template": "{stem}_x4.{ext}"}, "a_x4.png"),
        ("a.jpg", {"template": "{stem}_{ext}"}, "a_jpg.png"),
        ("a.jpg", {"template": "{stem}.avif", "format": "png"}, "a.avif"),
        ("v1.5", {}, "v1_x4.png"),
        ("v1.5.png", {}, "v1.5_x4.png"),
    ],
)
def test_the_format_of_a_result(source: str, naming: dict[str, str], name: str) -> None:
    assert Naming(**naming).result(source) == name  # type: ignore[arg-type]


@pytest.mark.parametrize("template", ["{stem}_big{ext}", "{stem}_big.{ext}"])
def test_a_suffix_needs_no_dot(template: str) -> None:
    from passionsr_cli.config import UpscaleSettings

    assert UpscaleSettings(name=template).name == "{stem}_big.{ext}"
    assert UpscaleSettings(name="{stem}_{ext}").name == "{stem}_{ext}"


@pytest.mark.parametrize("template", ["{stem}_{scale", "{stem}}", "{stem}{{ext}", "{stem}/a", "{}"])
def test_a_template_is_whole(template: str) -> None:
    from passionsr_cli.config import UpscaleSettings

    with pytest.raises(ValueError, match="is no name; it needs"):
        UpscaleSettings(name=template)


def test_a_template_says_no_format_that_is_not_written(folder: Path) -> None:
    for suffix in (".gif", ".JFIF", ".ppm"):
        with pytest.raises(ConfigError, match=f"--name: cannot write '{suffix.lower()}' files"):
            _plan(folder, template=f"{{stem}}{suffix}")


def test_a_quality_is_of_a_result_that_can_have_one() -> None:
    for naming, file in (
        (Naming(), None),
        (Naming("{stem}.tif", "jpg"), None),
        (Naming(), Path("a.BMP")),
        (Naming(format="jpg"), Path("a.png")),
    ):
        with pytest.raises(ConfigError, match=r"--quality: '.*' files have none"):
            naming.check_quality(file)
    for naming, file in (
        (Naming(format="same"), None),
        (Naming("{stem}.{ext}"), None),
        (Naming("{stem}.webp"), None),
        (Naming(), Path("a.JPG")),
    ):
        naming.check_quality(file)


def test_a_folder_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "album [2020]").mkdir()
    (tmp_path / "album [2020]" / "c.png").write_bytes(b"")
    for pattern in ("album [2020]/*.png", "album [2020]/[a-d].png", "**/c.png"):
        (job,) = _plan(tmp_path / pattern)
        assert job.output == tmp_path / "album [2020]" / "c_x4.png"


def test_parts_of_a_name_with_spaces_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "my best photo.png").write_bytes(b"")
    for typed in (["my", "best", "photo.png"], ["b.jpg", "my", "best", "photo.png"]):
        with pytest.raises(ConfigError, match=r"needs quotes: 'my best photo\.png'"):
            _plan(*typed)
    assert len(_plan("b.jpg", "a.png", "my best photo.png")) == 3


def test_results_below_a_pattern_or_behind_a_link_are_no_images(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "results" / "old").mkdir(parents=True)
    (folder / "results" / "old" / "c_x4.png").write_bytes(b"")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    for given in (f"{folder}/**/*.png", "../in", tmp_path / "link"):
        jobs = _plan(given, output=Path("results"), overwrite=True)
        assert next(Path(job.source).name for job in jobs if isinstance(job, Job)) == "a.png"
        assert not any("c_x4" in job.source for job in jobs)
    # A folder of results above the images hides none of them.
    assert len(_plan(f"{folder}/*.png", output=tmp_path)) == 1


def test_what_was_made_of_an_image_beside_it_is_none_of_the_images(folder: Path) -> None:
    made = {folder / "a_x2.png": str(folder / "a.png"), folder / "b.jpg": "/elsewhere/c.jpg"}
    (folder / "a_x2.png").write_bytes(b"")
    found = _plan(folder, template="{stem}_large", source_of=made.get)
    assert [Path(job.source).name for job in found] == ["a.png", "a_x4.png", "b.jpg"]


def test_what_was_made_of_an_image_that_is_not_called_one_is_none_either(folder: Path) -> None:
    (folder / "sub").mkdir()
    for name in ("pic.jpg_large", "pic_x4.png", "sub/noext_x4.png"):
        (folder / name).write_bytes(b"")
    made = {
        folder / "pic_x4.png": str(folder / "pic.jpg_large"),
        folder / "sub" / "noext_x4.png": str(folder / "noext"),
    }
    for given in (folder, folder / "**" / "*"):
        found = _plan(given, template="{stem}_large", source_of=made.get)
        # That whose source has gone, or lies elsewhere, is an image as others are.
        names = ["a.png", "a_x4.png", "b.jpg", "noext_x4.png"]
        assert [Path(job.source).name for job in found] == names
    assert len(_plan(folder / "pic_x4.png", source_of=made.get)) == 1
    (folder / "noext").write_bytes(b"")
    assert len(_plan(folder / "sub", source_of=made.get)) == 1
