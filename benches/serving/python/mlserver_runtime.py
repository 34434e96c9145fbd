"""ONNX Runtime in MLServer, which has no runtime of its own for it."""

from engine import Model
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    """A model whose parameters name an ONNX file."""

    async def load(self) -> bool:
        self.onnx = Model(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = {one.name: NumpyCodec.decode_input(one) for one in payload.inputs}
        arrays = self.onnx.run(inputs)
        outputs = [NumpyCodec.encode_output(name, array) for name, array in zip(self.onnx.outputs, arrays, strict=True)]
        return InferenceResponse(model_name=self.name, model_version="1", outputs=outputs)
