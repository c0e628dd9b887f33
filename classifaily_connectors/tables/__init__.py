"""Tables in, labelled tables out: CSV, JSONL, Parquet, data frames and lists of dicts.

    result = classify_table(client, "tickets.csv", text="body", categories=["billing", "technical"],
                            output="labelled.parquet", ledger="sqlite:///ledger.db")

The law of this package: a table is streamed, never held whole; its faults are found before anything is paid; the
types of the output are fixed before its first row; and what appears under the output's name is complete. Local CSV
and JSONL need only the standard library, everything else the extra `frames`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from classifaily_connectors._lazy import lazy_names

if TYPE_CHECKING:
    from classifaily_connectors.tables.endings import TableResult
    from classifaily_connectors.tables.run import aclassify_table, aplan_table, classify_table, plan_table

__all__ = ["TableResult", "aclassify_table", "aplan_table", "classify_table", "plan_table"]

__getattr__ = lazy_names(__name__, {**dict.fromkeys(__all__, "run"), "TableResult": "endings"})
