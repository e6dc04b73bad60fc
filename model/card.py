"""The page that introduces a published network, as model hubs show it: Markdown, made from its checkpoint alone."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ccln.model.checkpoint import Checkpoint
from ccln.model.network import CCLN

_TOLD = ("task", "data", "seed", "best_epoch", "finished")
_LONGEST = 200  # letters of one value

_LOCATES = """\
A CCLN network. It localizes audio-visual events in video: it says when an event of one of {classes} classes is both \
seen and heard, and of which class it is.

## Use

With ccln installed, on the command line:

```
hf download {repository} --local-dir {name}
ccln-localize --checkpoint {name} video.mp4
```

In Python:

```
from ccln.model import CCLN

network = CCLN.from_pretrained("{repository}")
network.checkpoint.class_names
```
"""

_MATCHES = """\
A matching network for cross-modality localization. It embeds the seconds of sound and picture so that those of one \
event lie close together: for a sound it finds when the event is seen, and for a picture when it is heard.

## Use

With ccln installed, in Python:

```
from ccln.model import MatchingNetwork

network = MatchingNetwork.from_pretrained("{repository}")
```
"""


def model_card(checkpoint: Checkpoint, repository: str) -> str:
    """Introduce a network.

    Args:
        checkpoint: all that its account of the training says may be shown to anyone.
        repository: where it is published, "owner/name".

    Returns:
        Markdown, with the metadata that the Hugging Face hub reads before it.
    """
    locates, training = isinstance(checkpoint.model, CCLN), checkpoint.training
    name = repository.rsplit("/", 1)[-1]
    about = (_LOCATES if locates else _MATCHES).format(
        repository=repository, name=name, classes=len(checkpoint.class_names)
    )
    told = [(key.replace("_", " "), training[key]) for key in _TOLD if key in training]
    versions = [(f"version of {library}", version) for library, version in _mapping(training, "versions").items()]
    parts = [
        "---\nlibrary_name: ccln\ntags:\n- audio-visual-event-localization\n- video\n- audio\n---\n",
        f"# {_plain(name)}\n",
        about,
        "## Classes\n",
        "\n".join(f"- {_plain(label)}" for label in checkpoint.class_names) + "\n",
        "## Training\n",
        _table(("", ""), told + versions),
        "## Scores\n",
        _scores(_mapping(training, "test"), _mapping(training, "validation")),
    ]
    if locates:
        decoding = [(key.replace("_", " "), value) for key, value in asdict(checkpoint.decoding).items()]
        parts += ["## How its answers become events\n", _table(("", ""), decoding)]
    specification = json.dumps(checkpoint.specification, indent=2, ensure_ascii=False)
    parts += ["## Features it reads\n", f"```json\n{specification}\n```\n"]
    return "\n".join(parts)


def _scores(test: Mapping[str, Any], validation: Mapping[str, Any]) -> str:
    rows = [(key.replace("_", " "), test.get(key), validation.get(key)) for key in {**test, **validation}]
    return _table(("", "test", "validation"), rows)


def _mapping(training: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An entry of the account, of which nobody vouches that it is what a training writes."""
    found = training.get(key)
    return found if isinstance(found, dict) else {}


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    cells = [list(head)]
    cells += [["-" for _ in cells[0]], *([_plain(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


def _plain(value: Any) -> str:
    """A value as text of one line in which nothing is markup."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None:
        return "none"
    return re.sub(r"([\\`*_\[\]<>#|~!&])", r"\\\1", " ".join(str(value)[:_LONGEST].split()))
