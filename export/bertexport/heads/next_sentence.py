"""Next sentence: the logits of the class that has the head, for pairs."""

from __future__ import annotations

from bertserve.heads.next_sentence import NEXT_SENTENCE

from bertexport.heads.row_export import RowExport

EXPORT = RowExport(kind=NEXT_SENTENCE, joint_output="seq_relationship_logits", needs_pair=True)
