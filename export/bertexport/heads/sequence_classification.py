"""Sequence classification: the logits of the class that has the head."""

from __future__ import annotations

from bertserve.heads.sequence_classification import SEQUENCE_CLASSIFICATION

from bertexport.heads.row_export import RowExport

EXPORT = RowExport(kind=SEQUENCE_CLASSIFICATION)
