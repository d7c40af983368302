"""The families that can be exported, and which of them a checkpoint is."""

from __future__ import annotations

import re

from bertexport.encoders.bert import BERT
from bertexport.encoders.distilbert import DISTILBERT
from bertexport.encoders.electra import ELECTRA
from bertexport.encoders.family import Family
from bertexport.encoders.roberta import CAMEMBERT, ROBERTA, XLM_ROBERTA
from bertexport.errors import ExportError

FAMILIES = {family.name: family for family in (BERT, ROBERTA, XLM_ROBERTA, CAMEMBERT, DISTILBERT, ELECTRA)}


def find_family(model_type: str) -> Family:
    """The family that a checkpoint's `model_type` names. Raises ExportError where it is not one of FAMILIES."""
    if model_type not in FAMILIES:
        supported = ", ".join(sorted(FAMILIES))
        raise ExportError(
            f"the checkpoint's family is {model_type!r} (model_type in config.json); supported: {supported}"
        )
    return FAMILIES[model_type]


def find_family_of_class(class_name: str) -> Family:
    """The family that a class of `transformers` belongs to. Raises ExportError."""
    for family in FAMILIES.values():
        if re.fullmatch(f"{family.classes[()].removesuffix('Model')}(Model|For[A-Z].*)", class_name):
            return family
    raise ExportError(
        f"config.json has no model_type, and its class {class_name!r} (architectures) is of no supported family; "
        f"state model_type, supported: {', '.join(sorted(FAMILIES))}"
    )
