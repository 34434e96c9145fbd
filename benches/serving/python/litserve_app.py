"""LitServe: `litserve_app.py FOLDER MODEL PORT`."""

import sys
from pathlib import Path

import litserve
from engine import Model


class Api(litserve.LitAPI):
    """One model; the session is made in the worker."""

    def setup(self, device: str) -> None:
        folder, name = sys.argv[1:3]
        self.model = Model(Path(folder) / f"{name}.onnx")

    def decode_request(self, request: dict) -> dict:
        return request

    def predict(self, request: dict) -> dict:
        return self.model.answer(request)

    def encode_response(self, output: dict) -> dict:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=2)
    server.run(host="127.0.0.1", port=int(sys.argv[3]), num_api_servers=2, generate_client_file=False)
