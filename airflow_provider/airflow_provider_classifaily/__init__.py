"""ClassifAIly for Apache Airflow: a connection type, a hook and operators.

The law of this package: a DAG file is parsed again and again, so importing any module here loads `airflow.sdk` and
nothing of the core; the core is imported where a task runs. It holds Airflow's language only (connections, templates,
XCom, retries); whatever is true of the API stands in `classifaily_connectors`.
"""

from importlib.util import find_spec

if find_spec("airflow") is None:
    raise ImportError(
        "airflow_provider_classifaily needs airflow: pip install 'classifaily-connectors[airflow]'", name="airflow"
    )
