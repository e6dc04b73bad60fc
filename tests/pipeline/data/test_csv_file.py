import csv
import os
import tempfile
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.making import Audio, Video, make_video, steady
from support.paths import SHARED

from ccln.pipeline.data import read_dataset
from ccln.pipeline.data.ave import read_ave_folder
from ccln.pipeline.data.clips import AnnotatedClip, DatasetError, segment_labels
from ccln.pipeline.data.csv_file import read_csv_dataset
from ccln.pipeline.data.times import parse_seconds

PUBLISHED = SHARED / "ave"
HEADER = "path,start,end,label,split\n"


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "clips.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# Reading


def test_reads_rows(tmp_path):
    text = HEADER + (
        "a.mp4,0,10,Bark,train\n"
        '"videos/b, 2.mkv",2.5,5,"Violin, fiddle",val\n'
        '"videos/b, 2.mkv",6,7.25,"Violin, fiddle",validation\n'
        "quiet.mp4,,,,test\n"
        "c.mp4, 1 , 2 , Bark , Test \n"
    )
    path = write(tmp_path, text)
    dataset = read_csv_dataset(path)
    assert dataset.source == path
    assert dataset.class_names == ("Bark", "Violin, fiddle")
    b = tmp_path / "videos" / "b, 2.mkv"
    assert dataset.clips == (
        AnnotatedClip(0, "Bark", "a", ((0, 10),), "train", tmp_path / "a.mp4"),
        AnnotatedClip(1, "Violin, fiddle", "b, 2", ((2.5, 5), (6, 7.25)), "validation", b),
        AnnotatedClip(3, None, "quiet", (), "test", tmp_path / "quiet.mp4"),
        AnnotatedClip(4, "Bark", "c", ((1, 2),), "test", tmp_path / "c.mp4"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "path,start,end,label,split\na.mp4,1,2,Bark,train\nb.mp4,0,1,Cat,test\n",
        "\ufeffpath,start,end,label,split\r\na.mp4,1,2,Bark,train\r\nb.mp4,0,1,Cat,test",
        "Label, split ,END,path,Start\nBark,train,2,a.mp4,1\nCat,test,1,b.mp4,0\n",
        '\n"path","start","end","label","split"\n\n"a.mp4","1","2","Bark","train"\n,,,,\n"b.mp4","0","1","Cat","test"\n\n',
        "path,start,end,label,split\n./a.mp4,1e0,2.0,Bark,train\nfolder/../b.mp4,0,1,Cat,test\n".replace(
            "folder/../", ".//"
        ),
    ],
)
def test_line_ends_and_quoting_do_not_matter(tmp_path, text):
    assert read_csv_dataset(write(tmp_path, text)).clips == (
        AnnotatedClip(0, "Bark", "a", ((1, 2),), "train", tmp_path / "a.mp4"),
        AnnotatedClip(1, "Cat", "b", ((0, 1),), "test", tmp_path / "b.mp4"),
    )


def test_spans_of_a_clip_are_sorted_and_merged(tmp_path):
    rows = ["a.mp4,6,8,Bark,train", "a.mp4,0,2.5,Bark,train", "b.mp4,0,1,Bark,test", "a.mp4,2,3,Bark,train"]
    rows += ["a.mp4,8,9,Bark,train", "a.mp4,6.5,7,Bark,train", "a.mp4,6,8,Bark,train"]
    a, b = read_csv_dataset(write(tmp_path, HEADER + "\n".join(rows))).clips
    assert a.spans == ((0, 3), (6, 9))
    assert b.spans == ((0, 1),)
    assert (a.row, b.row) == (0, 2)


NAMES = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="/\\"), min_size=1, max_size=6)
PATHS = st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3).map("/".join)
LABELS = st.lists(NAMES.filter(lambda name: name.lower() != "background"), min_size=1, max_size=3).map(" ".join)
# Marks that differ, so that spans neither overlap nor touch; float's repr gives every mark back.
SPANS = st.lists(st.floats(0, 10), min_size=2, max_size=6, unique=True).map(
    lambda marks: tuple(zip(sorted(marks)[: len(marks) // 2 * 2 : 2], sorted(marks)[1::2], strict=True))
)
CLIPS = st.dictionaries(
    PATHS, st.tuples(st.none() | st.tuples(LABELS, SPANS), st.sampled_from(["train", "val", "validation", "test"]))
)


@settings(max_examples=60, deadline=None)
@given(
    clips=CLIPS.filter(lambda clips: any(event for event, _ in clips.values())),
    line_end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    columns=st.permutations(["path", "start", "end", "label", "split"]),
    random=st.randoms(use_true_random=False),
)
@example(
    clips={"0": (("0", ((0.0, 5e-324),)), "train")},  # the shortest event there is
    line_end="\n",
    quoting=csv.QUOTE_MINIMAL,
    columns=["path", "start", "end", "label", "split"],
    random=Random(0),
)
def test_written_rows_are_read_back_unchanged(clips, line_end, quoting, columns, random):
    rows = []
    for path, (event, split) in clips.items():
        label, spans = event or ("", (("", ""),))
        rows += [{"path": path, "start": s, "end": e, "label": label, "split": split} for s, e in spans]
    random.shuffle(rows)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "clips.csv"
        with file.open("w", encoding="utf-8", newline="") as opened:
            writer = csv.DictWriter(opened, columns, lineterminator=line_end, quoting=quoting)
            writer.writeheader()
            writer.writerows(rows)
        dataset = read_csv_dataset(file)
    assert len(dataset.clips) == len(clips)
    for clip in dataset.clips:
        assert clip.path is not None
        event, split = clips[clip.path.relative_to(directory).as_posix()]
        assert (clip.label, clip.spans) == (event or (None, ()))
        assert clip.split == {"val": "validation"}.get(split, split)
        assert clip.video_id == clip.path.stem
    labels = dict.fromkeys(row["label"] for row in rows if row["label"])
    assert dataset.class_names == tuple(labels)


def test_without_a_split_column_the_path_determines_the_split(tmp_path):
    header = "path,start,end,label\n"
    rows = [f"{number}.mp4,0,1,Bark\n" for number in range(2000)]
    all_splits = {clip.video_id: clip.split for clip in read_csv_dataset(write(tmp_path, header + "".join(rows))).clips}
    counts = [sum(split == name for split in all_splits.values()) for name in ("train", "validation", "test")]
    for count, share in zip(counts, (0.7, 0.15, 0.15), strict=True):
        assert abs(count / 2000 - share) < 0.03
    some = read_csv_dataset(write(tmp_path, header + "".join(reversed(rows[::7]))))
    assert all(all_splits[clip.video_id] == clip.split for clip in some.clips)
    # Of sha256sum's output the first digits, as a share of their highest value: a0ef 0.63, befe 0.746, dafd 0.855.
    known = {"2": "train", "6": "validation", "3": "test"}
    assert {video_id: all_splits[video_id] for video_id in known} == known


# Malformed files

MALFORMED = [
    ("a.mp4,0,10,Bark", "row 'a.mp4,0,10,Bark'", "5 columns"),
    ("a.mp4,0,10,Violin, fiddle,train", "'a.mp4,0,10,Violin, fiddle,train'", "double quotes"),
    (",0,10,Bark,train", "path ''", "name of a file"),
    (".,0,10,Bark,train", "path '.'", "name of a file"),
    ("a\0.mp4,0,10,Bark,train", "path 'a\\x00.mp4'", "control characters"),
    ("a\x1b.mp4,0,10,Bark,train", "path 'a\\x1b.mp4'", "control characters"),
    ('"a\n.mp4",0,10,Bark,train', "path 'a\\n.mp4'", "control characters"),
    ("a\u202e.mp4,0,10,Bark,train", "path 'a\\u202e.mp4'", "control characters"),
    ("/etc/passwd,0,10,Bark,train", "path '/etc/passwd'", "relative"),
    ("../a.mp4,0,10,Bark,train", "path '../a.mp4'", "without '..'"),
    ("videos/../../a.mp4,0,10,Bark,train", "path 'videos/../../a.mp4'", "without '..'"),
    ("x" * 9000 + "/../a.mp4,0,10,Bark,train", "path 'xxx", "without '..'"),
    ("a.mp4,0,10,Ba\x07rk,train", "label 'Ba\\x07rk'", "printable"),
    ("a.mp4,0,10,background,train", "label 'background'", "background has no label"),
    ("a.mp4,3,2,,train", "start '3'", "before the end, 2"),
    ("a.mp4,3,,,train", "end ''", "seconds, such as 2.5"),
    ("a.mp4,,,Bark,train", "start ''", "seconds, such as 2.5"),
    ("a.mp4,0,,Bark,train", "end ''", "seconds, such as 2.5"),
    ('a.mp4,"1,500",2000,Bark,train', "start '1,500'", "1.500 or 1500: it may mean either"),
    ('a.mp4,"0,5",0.75,Bark,train', "end '0.75'", "fractions after ',', as in line 7"),
    ('a.mp4,"1.000,5",2,Bark,train', "start '1.000,5'", "seconds, such as 2.5"),
    ("a.mp4,0:60,2:00,Bark,train", "start '0:60'", "end at 59"),
    ("a.mp4,1:75:00,2:00,Bark,train", "start '1:75:00'", "end at 59"),
    ("a.mp4,0:5,2:00,Bark,train", "start '0:5'", "1:02.5"),
    ("a.mp4,00:00:01:12,9,Bark,train", "start '00:00:01:12'", "1:02.5"),
    ("a.mp4,1_0,2,Bark,train", "start '1_0'", "seconds, such as 2.5"),
    ("a.mp4,2 s,9,Bark,train", "start '2 s'", "seconds, such as 2.5"),
    ("a.mp4,0,ten,Bark,train", "end 'ten'", "seconds"),
    ("a.mp4,nan,2,Bark,train", "start 'nan'", "seconds"),
    ("a.mp4,0,inf,Bark,train", "end 'inf'", "seconds"),
    ("a.mp4,0," + "9" * 6000 + ",Bark,train", "end '999", "seconds"),
    ("a.mp4,-1,2,Bark,train", "start '-1'", "at least 0"),
    ("a.mp4,2,2,Bark,train", "start '2'", "before the end, 2"),
    ("a.mp4,3,2,Bark,train", "start '3'", "before the end, 2"),
    ("a.mp4,0,10,Bark,", "split ''", "train, validation, val, test"),
    ("a.mp4,0,10,Bark,dev", "split 'dev'", "train, validation, val, test"),
    ("first.mp4,,,,train", "row of 'first.mp4' ''", "no row beside line 2: a row with a path alone"),
    ("quiet.mp4,0,1,Bark,test", "row of 'quiet.mp4' 'Bark'", "no row beside line 3"),
    ("first.mp4,2,3,Bark,test", "split of 'first.mp4' 'test'", "train, as in line 2: a video is in one split"),
]


@pytest.mark.parametrize(("row", "value", "expected"), MALFORMED)
def test_a_malformed_row_is_one_clear_error(tmp_path, row, value, expected):
    # A quoted line break before it: lines are counted as an editor counts them.
    path = write(
        tmp_path, f'{HEADER}first.mp4,0,1,Bark,train\nquiet.mp4,,,,test\n"x.mp4",0,1,"Bark\n",train\n\n{row}\n'
    )
    with pytest.raises(DatasetError) as caught:
        read_csv_dataset(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line 7: ")
    assert value in message
    assert expected in message.split("; expected ")[1]
    assert len(message) < 2 * len(str(tmp_path)) + 400


@pytest.mark.parametrize(
    "header",
    [
        "path,start,end",
        "path|start|end|label",
        "path;start,end,label",
        "path,start,end,label,slpit",
        "path,start,end,label,splits,note",
        "path,start,end,label,label",
        "a.mp4,0,10,Bark",
        "",
    ],
)
def test_another_header_is_refused(tmp_path, header):
    path = write(tmp_path, header + "\na.mp4,0,10,Bark\n" * (header != ""))
    with pytest.raises(DatasetError, match=r"clips\.csv, line 1: header .*expected path,start,end,label\[,split\]"):
        read_csv_dataset(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ä.mp4,0,10,Bark,train".encode("latin-1"), "line 3: text .*UTF-8"),
        (b'"a.mp4"b,0,10,Bark,train', "line 3: .*expected after"),
        (b'a.mp4,0,10,"Bark,train', "line 3: unexpected end of data"),
        (b"a" * 200_000 + b".mp4,0,10,Bark,train", "line 3: field larger"),
    ],
)
def test_a_file_that_is_not_a_csv_is_refused(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        read_csv_dataset(write(tmp_path, HEADER.encode() + b"x.mp4,0,10,Bark,train\n" + text))


def test_a_file_without_an_event_is_refused(tmp_path):
    for text in (HEADER, HEADER + "quiet.mp4,,,,train\n"):
        with pytest.raises(DatasetError, match="no row with a label"):
            read_csv_dataset(write(tmp_path, text))


def test_oversized_files_are_refused_without_reading(tmp_path):
    with (tmp_path / "clips.csv").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DatasetError, match=f"has {2**40} bytes"):
        read_csv_dataset(tmp_path / "clips.csv")


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "clips.csv")
    with pytest.raises(DatasetError, match="not a regular file"):
        read_csv_dataset(tmp_path / "clips.csv")


# As people have it

PLAIN = "path,start,end,label,split\na.mp4,1.5,2,Bark,train\nb.mp4,0,9.25,Cat,test\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", ";").replace(".5", ",5").replace(".25", ",25"),
        PLAIN.replace(",", "\t").replace(".5", ",5").replace(".25", ",25"),
        PLAIN.replace("1.5", '"1,5"').replace("9.25", '"9,25"'),
        "sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"),
        PLAIN.replace("1.5,2,", "0:01.5,0:00:02,").replace("9.25", "00:00:09.250"),
        PLAIN.replace(",", ";").replace("1.5;2;", "00:01,5;2;").replace("9.25", "9,250"),
        PLAIN.replace("split\n", "split,note,\n")
        .replace("train\n", 'train,"far, faint",\n')
        .replace("test\n", "test,,\n"),
        PLAIN.replace("start,end", "start_seconds,end_seconds"),
        ("\ufeff" + PLAIN).encode("utf-16-le"),
        ("\ufeff" + PLAIN.replace(",", "\t").replace("\n", "\r\n")).encode("utf-16-be"),
        PLAIN.replace("\n", "\r"),
    ],
)
def test_every_way_of_writing_a_table_gives_the_same_rows(tmp_path, text):
    assert read_csv_dataset(write(tmp_path, text)).clips == (
        AnnotatedClip(0, "Bark", "a", ((1.5, 2),), "train", tmp_path / "a.mp4"),
        AnnotatedClip(1, "Cat", "b", ((0, 9.25),), "test", tmp_path / "b.mp4"),
    )


@settings(max_examples=200, deadline=None)
@given(
    milliseconds=st.integers(0, 10**8),
    form=st.sampled_from(["seconds", "clock", "long clock"]),
    mark=st.sampled_from(".,"),
)
def test_a_time_is_the_same_however_it_is_written(milliseconds, form, mark):
    seconds, rest = divmod(milliseconds, 1000)
    minutes, hours = seconds // 60, seconds // 3600
    written = {
        "seconds": f"{seconds}",
        "clock": f"{minutes}:{seconds % 60:02}",
        "long clock": f"{hours}:{minutes % 60:02}:{seconds % 60:02}",
    }[form]
    assert parse_seconds(f"{written}{mark}{rest:03}") == pytest.approx(milliseconds / 1000, abs=1e-9)


def test_ends_a_little_after_the_video_are_cut_off_there(tmp_path, caplog):
    make_video(tmp_path / "a.mp4", Video(steady(100)), Audio(np.zeros(4 * 44_100, np.float32)))
    rows = "a.mp4,0,1.5,Bark,train\na.mp4,2,4.6,Bark,train\nb.mp4,0,9,Bark,test\n"
    dataset = read_csv_dataset(write(tmp_path, HEADER + rows))
    assert dataset.clips[0].spans == ((0, 1.5), (2, pytest.approx(4, abs=0.05)))
    assert dataset.clips[1].spans == ((0, 9),)  # of a video that is not there nothing is known
    assert "1 events end after their video and are cut off there (line 3)" in caplog.text
    for row, value in (("a.mp4,0,5.5,Bark,train", "end '5.5'"), ("a.mp4,4.5,4.6,Bark,train", "end '4.6'")):
        with pytest.raises(DatasetError, match=rf"line 2: {value}; expected within the video, which lasts 4\.0"):
            read_csv_dataset(write(tmp_path, HEADER + row))


def test_a_video_that_was_replaced_ends_where_the_new_one_does(tmp_path):
    for seconds, end in ((4, 4), (6, 4.6)):
        make_video(tmp_path / "a.mp4", Video(steady(25 * seconds)), Audio(np.zeros(seconds * 44_100, np.float32)))
        dataset = read_csv_dataset(write(tmp_path, HEADER + "a.mp4,2,4.6,Bark,train\n"))
        assert dataset.clips[0].spans == ((2, pytest.approx(end, abs=0.05)),)


# Videos in another folder


@pytest.fixture
def media(tmp_path) -> Path:
    for name in ("park/a.mp4", "street/a.mp4", "b.mp4"):
        (tmp_path / "media" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "media" / name).touch()
    (tmp_path / "tables").mkdir()
    return tmp_path / "media"


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("park/a.mp4", "park/a.mp4"),
        ("park\\a.mp4", "park/a.mp4"),
        ("MEDIA/park/a.mp4", "park/a.mp4"),
        ("/home/somebody/clips/park/a.mp4", "park/a.mp4"),
        ("C:\\Users\\somebody\\clips\\street\\a.mp4", "street/a.mp4"),
        ("/home/somebody/b.mp4", "b.mp4"),
        ("/home/somebody/c.mp4", "home/somebody/c.mp4"),
    ],
)
def test_paths_are_looked_up_in_the_media_root(media, written, found):
    file = write(media.parent / "tables", f"{HEADER}{written.replace('MEDIA', str(media))},0,1,Bark,train\n")
    (clip,) = read_csv_dataset(file, media).clips
    assert clip.path == media / found


def test_two_paths_that_would_be_one_video_are_refused(media):
    text = f"{HEADER}/x/park/b.mp4,0,1,Bark,train\n/x/street/b.mp4,0,1,Cat,train\n"
    with pytest.raises(DatasetError, match=r"line 3: path '/x/street/b\.mp4'; expected another video than .* line 2"):
        read_csv_dataset(write(media.parent / "tables", text), media)


def test_nothing_outside_the_media_root_is_read(media):
    for written in ("../tables/a.mp4", "/x/../../a.mp4", "..\\a.mp4"):
        with pytest.raises(DatasetError, match=r"without '\.\.'"):
            read_csv_dataset(write(media.parent / "tables", f"{HEADER}{written},0,1,Bark,train\n"), media)
    with pytest.raises(DatasetError, match="no such folder"):
        read_csv_dataset(write(media.parent / "tables", PLAIN), media / "nowhere")


# Links


@pytest.fixture
def linked(tmp_path) -> Path:
    """A folder with links inward, outward and in a circle, reached through a link itself."""
    (tmp_path / "secret.mp4").touch()
    inside = tmp_path / "inside"
    (inside / "videos").mkdir(parents=True)
    (inside / "videos" / "a.mp4").touch()
    (inside / "in.mp4").symlink_to("videos/a.mp4")
    (inside / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (inside / "up").symlink_to(tmp_path, target_is_directory=True)
    (inside / "dangling.mp4").symlink_to(tmp_path / "not there")
    (inside / "circle.mp4").symlink_to("circle.mp4")
    (tmp_path / "door").symlink_to(inside, target_is_directory=True)
    return tmp_path / "door"


@pytest.mark.parametrize("name", ["out.mp4", "up/secret.mp4", "up/not there", "dangling.mp4"])
def test_links_out_of_the_folder_are_refused(linked, name):
    with pytest.raises(DatasetError, match=rf"line 2: path '{name}'; expected a path whose links stay below"):
        read_csv_dataset(write(linked, f"{HEADER}{name},0,10,Bark,train\n"))


def test_links_within_the_folder_are_followed(linked):
    text = HEADER + "in.mp4,0,10,Bark,train\nvideos/a.mp4,0,10,Bark,train\ncircle.mp4,0,10,Bark,train\n"
    dataset = read_csv_dataset(write(linked, text))
    videos = [dataset.video_of(clip) for clip in dataset.clips]
    assert videos == [linked / "in.mp4", linked / "videos" / "a.mp4", None]


# Folder or CSV


def test_read_dataset_reads_a_folder_or_a_csv(tmp_path):
    (tmp_path / "ave").mkdir()
    for name in ("Annotations", "trainSet", "valSet", "testSet"):
        (tmp_path / "ave" / f"{name}.txt").write_text("Cat&a&good&0&10\n")
    assert read_dataset(tmp_path / "ave").class_names == ("Cat",)
    assert read_dataset(write(tmp_path, HEADER + "a.mp4,0,1,Bark,train")).class_names == ("Bark",)
    with pytest.raises(DatasetError, match=r"Annotations\.txt is missing"):
        read_dataset(tmp_path)
    with pytest.raises(
        DatasetError, match=r"nothing: no such file or folder\. .*Annotations\.txt.*path,start,end,label"
    ):
        read_dataset(tmp_path / "nothing")


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"the published AVE files are not in {PUBLISHED}")
def test_the_published_rows_written_as_csv_give_the_same_labels(tmp_path):
    published = read_ave_folder(PUBLISHED)
    clips = sorted(published.clips, key=lambda clip: clip.row or 0)
    rows = []
    for clip in clips:
        ((start, end),) = clip.spans
        event = f'{start},{end},"{clip.label}"' if start < end else ",,"  # row 26 has no length
        rows.append(f"{clip.row}.mp4,{event},{clip.split}\n")
    dataset = read_csv_dataset(write(tmp_path, HEADER + "".join(rows)))
    assert dataset.class_names == published.class_names
    expected = segment_labels(clips, published.class_names)
    assert (segment_labels(dataset.clips, dataset.class_names) == expected).all()
    assert [clip.split for clip in dataset.clips] == [clip.split for clip in clips]
