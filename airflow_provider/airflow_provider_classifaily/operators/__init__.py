"""One task, one ClassifAIly operation; the operators' import path is this module, whatever file they stand in."""

from airflow_provider_classifaily.operators.calls import (
    ClassifailyBatchOperator,
    ClassifailyClassifyOperator,
    ClassifailySchemaOperator,
)
from airflow_provider_classifaily.operators.submit import ClassifailySubmitOperator
from airflow_provider_classifaily.operators.tables import ClassifailyTableOperator

__all__ = [
    "ClassifailyBatchOperator",
    "ClassifailyClassifyOperator",
    "ClassifailySchemaOperator",
    "ClassifailySubmitOperator",
    "ClassifailyTableOperator",
]
