"""What Airflow reads to know this provider.

The law of this file: standard library only, and nothing computed: every Airflow process calls it on start. The
connection form stands here as metadata, so neither wtforms nor the hook is imported to draw it.
"""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """The provider's metadata, in the shape of Airflow's `provider_info.schema.json` and `provider.yaml` forms.

    `package-name` must equal the distribution's name: Airflow refuses to discover any provider otherwise.
    """
    integration = "ClassifAIly"
    return {
        "package-name": "classifaily-connectors",
        "name": integration,
        "description": "Classify text, images, audio and video with ClassifAIly.",
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://classifaily.com/docs.php",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": integration, "python-modules": ["airflow_provider_classifaily.hooks"]}],
        "operators": [{"integration-name": integration, "python-modules": ["airflow_provider_classifaily.operators"]}],
        "sensors": [{"integration-name": integration, "python-modules": ["airflow_provider_classifaily.sensors"]}],
        "triggers": [{"integration-name": integration, "python-modules": ["airflow_provider_classifaily.triggers"]}],
        "plugins": [{"name": "classifaily", "plugin-class": "airflow_provider_classifaily.plugins.ClassifailyPlugin"}],
        "connection-types": [
            {
                "connection-type": "classifaily",
                "hook-class-name": "airflow_provider_classifaily.hooks.ClassifailyHook",
                "hook-name": integration,
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "port", "schema"],
                    "relabeling": {"password": "API key", "host": "Base URL"},
                    "placeholders": {"password": "cai_live_...", "host": "https://api.classifaily.com/v1"},
                },
                "conn-fields": {
                    "timeout": {
                        "label": "Timeout (seconds)",
                        "description": "How long one attempt may wait for the answer. Empty: 60 for one input, "
                        "30 + 0.5 per item for a batch. A timeout does not stop the API from billing.",
                        "schema": {"type": ["number", "null"], "minimum": 1},
                    },
                    "max_connections": {
                        "label": "Connections at most",
                        "description": "How many connections one task may open at the same time. Empty: 100.",
                        "schema": {"type": ["integer", "null"], "minimum": 1},
                    },
                    "store_url": {
                        "label": "Store URL",
                        "description": "Where paid answers are kept, so that no row is paid twice: sqlite:////path or "
                        "postgresql+psycopg://... Empty: CLASSIFAILY_STORE_URL, else the user's state folder.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "receiver_url": {
                        "label": "Receiver URL",
                        "description": "For workers that cannot reach the store: where webhooks arrive, such as "
                        "https://airflow.example.com/classifaily/webhooks. Empty: they look into the store.",
                        "schema": {"type": ["string", "null"], "format": "url"},
                    },
                    "webhook_secret": {
                        "label": "Webhook secret",
                        "description": "Opens the feed of the receiver above. Empty: CLASSIFAILY_WEBHOOK_SECRET.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                },
            }
        ],
    }
