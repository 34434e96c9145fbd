"""The `kserve` package's clients, REST and gRPC, run by `test_clients.py`."""

import asyncio

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services
from values import ADDRESS, ECHO, SUMS, URL, VALUES, A, B


def request(binary, model=SUMS, a=A):
    tensors = []
    for name, values in [("a", a), ("b", B)]:
        tensor = InferInput(name, list(values.shape), "FP32")
        tensor.set_data_from_numpy(values, binary_data=binary)
        tensors.append(tensor)
    return InferRequest(model_name=model, infer_inputs=tensors, request_id="k-1")


def output(answer, name):
    found = {output.name: output for output in answer.outputs}[name]
    return found.as_numpy().reshape(found.shape)


@pytest.mark.parametrize("binary", [True, False])
def test_rest(binary):
    async def run():
        client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
        assert await client.is_server_live(URL) and await client.is_server_ready(URL)
        assert await client.is_model_ready(URL, SUMS)
        answer = await client.infer(URL, request(binary), model_name=SUMS)
        assert answer.id == "k-1" and answer.model_name == SUMS
        np.testing.assert_allclose(output(answer, "sum"), A + B)
        np.testing.assert_allclose(output(answer, "difference"), A - B)
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await client.infer(URL, request(binary, a=np.zeros((2, 3), np.float32)), model_name=SUMS)
        assert caught.value.response.status_code == 400
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await client.infer(URL, request(binary, model="nowhere"), model_name="nowhere")
        assert caught.value.response.status_code == 404

    asyncio.run(run())


@pytest.mark.parametrize("binary", [True, False])
def test_grpc(binary):
    async def run():
        async with InferenceGRPCClient(ADDRESS, retries=0) as client:
            assert await client.is_server_live() and await client.is_server_ready()
            assert await client.is_model_ready(SUMS)
            answer = await client.infer(request(binary))
            assert answer.id == "k-1" and answer.model_name == SUMS
            np.testing.assert_array_equal(output(answer, "sum"), A + B)
            np.testing.assert_array_equal(output(answer, "difference"), A - B)
            with pytest.raises(grpc.RpcError) as caught:
                await client.infer(request(binary, model="nowhere"))
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND

    asyncio.run(run())


def test_every_datatype_over_grpc():
    async def run():
        tensors = []
        for name, (datatype, values) in VALUES.items():
            tensor = InferInput(name, list(values.shape), datatype)
            tensor.set_data_from_numpy(values, binary_data=True)
            tensors.append(tensor)
        async with InferenceGRPCClient(ADDRESS, retries=0) as client:
            answer = await client.infer(InferRequest(model_name=ECHO, infer_inputs=tensors))
        for name, (_, values) in VALUES.items():
            np.testing.assert_array_equal(output(answer, f"{name}_out"), values, err_msg=name)

    asyncio.run(run())


def test_the_repository_calls_of_this_dialect():
    with grpc.insecure_channel(ADDRESS) as channel:
        stub = services.GRPCInferenceServiceStub(channel)
        answer = stub.RepositoryModelUnload(messages.RepositoryModelUnloadRequest(model_name=SUMS))
        assert answer.model_name == SUMS and answer.isUnloaded
        assert not stub.ModelReady(messages.ModelReadyRequest(name=SUMS)).ready
        answer = stub.RepositoryModelLoad(messages.RepositoryModelLoadRequest(model_name=SUMS))
        assert answer.model_name == SUMS and answer.isLoaded
        assert stub.ModelReady(messages.ModelReadyRequest(name=SUMS)).ready
