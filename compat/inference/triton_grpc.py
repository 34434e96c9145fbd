"""`tritonclient[grpc]`, run by `test_clients.py`."""

import queue

import grpc as plain
import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException
from values import ADDRESS, ECHO, SUMS, VALUES, A, B


@pytest.fixture
def client():
    with grpc.InferenceServerClient(ADDRESS) as client:
        yield client


@pytest.fixture
def stub():
    with plain.insecure_channel(ADDRESS) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def inputs():
    made = []
    for name, (datatype, values) in VALUES.items():
        tensor = grpc.InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values)
        made.append(tensor)
    return made


def sums_inputs(a=A, b=B):
    made = []
    for name, values in [("a", a), ("b", b)]:
        tensor = grpc.InferInput(name, list(values.shape), "FP32")
        tensor.set_data_from_numpy(values)
        made.append(tensor)
    return made


def test_server_and_model_tell_of_themselves(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready(ECHO) and client.is_model_ready(ECHO, "1")
    metadata = client.get_server_metadata()
    assert metadata.name == "fishy" and "model_repository" in metadata.extensions
    model = client.get_model_metadata(SUMS)
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in model.inputs] == [
        ("a", "FP32", [-1, 2]),
        ("b", "FP32", [-1, 2]),
    ]
    assert list(model.versions) == ["1"] and model.platform == "onnxruntime_onnx"
    config = client.get_model_config(SUMS, as_json=True)["config"]
    assert config["max_batch_size"] == 64 and config["input"][0]["dims"] == ["2"]
    assert config["input"][0]["data_type"] == "TYPE_FP32" and config["backend"] == "onnxruntime"


def test_every_datatype_goes_in_and_out_raw(client):
    answer = client.infer(ECHO, inputs(), request_id="all-2", parameters={"sensor": "north", "depth": 3})
    response = answer.get_response()
    assert response.id == "all-2" and response.parameters["sensor"].string_param == "north"
    assert response.parameters["depth"].int64_param == 3
    for name, (_, values) in VALUES.items():
        np.testing.assert_array_equal(answer.as_numpy(f"{name}_out"), values, err_msg=name)


FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def typed(model, tensors):
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, datatype, values in tensors:
        tensor = request.inputs.add(name=name, datatype=datatype, shape=list(values.shape))
        getattr(tensor.contents, FIELDS.get(datatype, "fp32_contents")).extend(values.flatten().tolist())
    return request


def test_typed_contents_are_answered_with_typed_contents(stub):
    answer = stub.ModelInfer(typed(SUMS, [("a", "FP32", A), ("b", "FP32", B)]))
    assert not answer.raw_output_contents
    np.testing.assert_array_equal(answer.outputs[0].contents.fp32_contents, (A + B).flatten())
    np.testing.assert_array_equal(answer.outputs[1].contents.fp32_contents, (A - B).flatten())


def test_typed_contents_of_every_datatype_that_has_a_field(stub):
    tensors = [(name, kind, values) for name, (kind, values) in VALUES.items()]
    with pytest.raises(plain.RpcError) as caught:
        stub.ModelInfer(typed(ECHO, tensors))
    assert caught.value.code() == plain.StatusCode.INVALID_ARGUMENT
    assert "raw_input_contents" in caught.value.details(), "half precision has no field"
    # The model takes half precision from the field of single precision.
    tensors = [(name, "FP32" if kind == "FP16" else kind, values) for name, kind, values in tensors]
    answer = stub.ModelInfer(typed(ECHO, tensors))
    found = grpc.InferResult(answer)
    for name, (_, values) in VALUES.items():
        np.testing.assert_array_equal(found.as_numpy(f"{name}_out"), values, err_msg=name)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_messages_may_be_packed(client, algorithm):
    a = np.arange(4000, dtype=np.float32).reshape(2000, 2)
    answer = client.infer(SUMS, sums_inputs(a, a), compression_algorithm=algorithm)
    np.testing.assert_array_equal(answer.as_numpy("sum"), a + a)


def test_large_tensors_pass(client):
    a = np.arange(2_000_000, dtype=np.float32).reshape(1_000_000, 2)
    np.testing.assert_array_equal(client.infer(SUMS, sums_inputs(a, a)).as_numpy("sum"), a + a)


def test_only_the_outputs_that_are_asked_for_come(client):
    answer = client.infer(SUMS, sums_inputs(), outputs=[grpc.InferRequestedOutput("difference")], model_version="1")
    assert answer.as_numpy("sum") is None
    np.testing.assert_array_equal(answer.as_numpy("difference"), A - B)


def test_a_stream_answers_in_order_and_goes_on_after_an_error(client):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for n in range(50):
        tensors = sums_inputs(A + n, B) if n != 20 else sums_inputs(A + n, B)[:1]
        client.async_stream_infer(SUMS, tensors, request_id=f"s-{n}")
    for n in range(50):
        result, error = answers.get(timeout=30)
        if n == 20:
            assert result is None and '"b" is missing' in error.message()
        else:
            assert error is None and result.get_response().id == f"s-{n}"
            np.testing.assert_array_equal(result.as_numpy("sum"), A + n + B)
    client.stop_stream()


def test_many_at_once(client):
    answers = queue.Queue()
    for n in range(64):
        client.async_infer(SUMS, sums_inputs(A + n, B), lambda result, error, n=n: answers.put((n, result, error)))
    for _ in range(64):
        n, result, error = answers.get(timeout=30)
        assert error is None
        np.testing.assert_array_equal(result.as_numpy("sum"), A + n + B)


def test_the_repository_is_listed_unloaded_and_loaded(client):
    def state():
        return {model.name: model.state for model in client.get_model_repository_index().models}[SUMS]

    assert state() == "READY"
    client.unload_model(SUMS)
    assert state() == "UNAVAILABLE" and not client.is_model_ready(SUMS)
    with pytest.raises(InferenceServerException) as caught:
        client.infer(SUMS, sums_inputs())
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    client.load_model(SUMS)
    assert state() == "READY" and client.is_model_ready(SUMS)


def test_statistics_count(client):
    before = client.get_inference_statistics(ECHO).model_stats[0].inference_count
    client.infer(ECHO, inputs())
    after = client.get_inference_statistics(ECHO).model_stats[0]
    assert after.inference_count - before == 2 and after.inference_stats.success.ns > 0
    assert ECHO in {model.name for model in client.get_inference_statistics().model_stats}


def test_what_is_wrong_has_its_status(client):
    wrong_shape = grpc.InferInput("a", [2, 3], "FP32")
    wrong_shape.set_data_from_numpy(np.zeros((2, 3), np.float32))
    wrong_name = grpc.InferInput("q", [2, 2], "FP32")
    wrong_name.set_data_from_numpy(A)
    good = sums_inputs()
    cases = [
        ("shape", SUMS, [wrong_shape, good[1]], "INVALID_ARGUMENT", '"a" has shape [2,3]'),
        ("name", SUMS, [wrong_name, good[1]], "INVALID_ARGUMENT", 'unknown input "q"'),
        ("missing", SUMS, good[:1], "INVALID_ARGUMENT", '"b" is missing'),
        ("model", "nowhere", good, "NOT_FOUND", '"nowhere"'),
    ]
    for what, model, tensors, status, says in cases:
        with pytest.raises(InferenceServerException) as caught:
            client.infer(model, tensors)
        assert caught.value.status() == f"StatusCode.{status}" and says in caught.value.message(), (what, caught.value)
    with pytest.raises(InferenceServerException) as caught:
        client.infer(SUMS, good, request_id="no/such id")
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_a_message_that_is_too_large_is_refused(client):
    a = np.zeros((3_000_000, 2), np.float32)
    with pytest.raises(InferenceServerException) as caught:
        client.infer(SUMS, sums_inputs(a, a))
    assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED", caught.value


def test_methods_that_there_are_not(stub):
    with pytest.raises(plain.RpcError) as caught:
        stub.TraceSetting(service_pb2.TraceSettingRequest())
    assert caught.value.code() == plain.StatusCode.UNIMPLEMENTED
