"""Webhooks: deliveries that are verified before they are believed (API reference, Webhooks)."""

from __future__ import annotations

from classifaily_connectors.webhooks.signature import parse_event, sign, verify

__all__ = ["parse_event", "sign", "verify"]
