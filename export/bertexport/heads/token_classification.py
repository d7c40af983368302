"""Token classification: the logits of the class that has the head."""

from __future__ import annotations

from bertserve.heads.token_classification import TOKEN_CLASSIFICATION

from bertexport.heads.row_export import RowExport

EXPORT = RowExport(kind=TOKEN_CLASSIFICATION)
