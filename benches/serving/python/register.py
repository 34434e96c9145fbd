"""Registers models in MLflow's form with a server: `register.py URL FOLDER NAME…`."""

import sys

import mlflow


def main() -> None:
    url, folder, *names = sys.argv[1:]
    mlflow.set_tracking_uri(url)
    mlflow.set_experiment("bench")
    client = mlflow.MlflowClient()
    for name in names:
        with mlflow.start_run(log_system_metrics=False) as run:
            client.log_artifacts(run.info.run_id, f"{folder}/{name}", "model")
        client.create_registered_model(name)
        client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)


if __name__ == "__main__":
    main()
