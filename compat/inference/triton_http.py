"""`tritonclient[http]`, run by `test_clients.py`."""

import urllib.error
import urllib.request

import numpy as np
import pytest
import tritonclient.http as http
from tritonclient.utils import InferenceServerException
from values import ADDRESS, ECHO, SUMS, URL, VALUES, A, B


@pytest.fixture
def client():
    with http.InferenceServerClient(ADDRESS) as client:
        yield client


def inputs(binary):
    made = []
    for name, (datatype, values) in VALUES.items():
        tensor = http.InferInput(name, list(values.shape), datatype)
        # Half precision has no form in this client's JSON.
        tensor.set_data_from_numpy(values, binary_data=binary or datatype == "FP16")
        made.append(tensor)
    return made


def sums_inputs(a=A, b=B):
    made = []
    for name, values in [("a", a), ("b", b)]:
        tensor = http.InferInput(name, list(values.shape), "FP32")
        tensor.set_data_from_numpy(values)
        made.append(tensor)
    return made


def test_server_and_model_tell_of_themselves(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready(ECHO) and client.is_model_ready(ECHO, "1")
    metadata = client.get_server_metadata()
    assert metadata["name"] == "fishy" and "binary_tensor_data" in metadata["extensions"]
    model = client.get_model_metadata(SUMS)
    assert [tensor["name"] for tensor in model["inputs"]] == ["a", "b"]
    assert [tensor["shape"] for tensor in model["outputs"]] == [[-1, 2], [-1, 2]]


@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype_goes_in_and_out(client, binary):
    outputs = [
        http.InferRequestedOutput(f"{name}_out", binary_data=binary or kind == "FP16")
        for name, (kind, _) in VALUES.items()
    ]
    answer = client.infer(ECHO, inputs(binary), outputs=outputs, request_id="all-1")
    assert answer.get_response()["id"] == "all-1"
    for name, (_, values) in VALUES.items():
        found = answer.as_numpy(f"{name}_out")
        if not binary and name == "bytes":
            found = np.array([text.encode() if isinstance(text, str) else text for text in found], np.object_)
        np.testing.assert_array_equal(found, values, err_msg=name)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_bodies_are_packed_both_ways(client, algorithm):
    a = np.arange(4000, dtype=np.float32).reshape(2000, 2)
    answer = client.infer(
        SUMS,
        sums_inputs(a, a),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    np.testing.assert_array_equal(answer.as_numpy("sum"), a + a)
    np.testing.assert_array_equal(answer.as_numpy("difference"), a - a)


def test_only_the_outputs_that_are_asked_for_come(client):
    answer = client.infer(SUMS, sums_inputs(), outputs=[http.InferRequestedOutput("difference")], model_version="1")
    assert answer.as_numpy("sum") is None
    np.testing.assert_array_equal(answer.as_numpy("difference"), A - B)


def test_many_at_once(client):
    with http.InferenceServerClient(ADDRESS, concurrency=8) as client:
        asked = [client.async_infer(SUMS, sums_inputs(A + n, B)) for n in range(64)]
        for n, answer in enumerate(asked):
            np.testing.assert_array_equal(answer.get_result().as_numpy("sum"), A + n + B)


def test_the_repository_is_listed_unloaded_and_loaded(client):
    def state():
        return {model["name"]: model["state"] for model in client.get_model_repository_index()}[SUMS]

    assert state() == "READY"
    client.unload_model(SUMS)
    assert state() == "UNAVAILABLE" and not client.is_model_ready(SUMS)
    client.load_model(SUMS)
    assert state() == "READY"


def test_statistics_count(client):
    before = client.get_inference_statistics(ECHO)["model_stats"][0]["inference_count"]
    client.infer(ECHO, inputs(True))
    after = client.get_inference_statistics(ECHO)["model_stats"][0]
    assert after["inference_count"] - before == 2 and after["inference_stats"]["success"]["ns"] > 0


def test_what_is_wrong_is_told_in_the_protocols_form_and_is_never_a_500(client):
    wrong_shape = http.InferInput("a", [2, 3], "FP32")
    wrong_shape.set_data_from_numpy(np.zeros((2, 3), np.float32))
    wrong_name = http.InferInput("q", [2, 2], "FP32")
    wrong_name.set_data_from_numpy(A)
    good = sums_inputs()
    cases = [
        ("shape", SUMS, [wrong_shape, good[1]], "400", '"a" has shape [2,3]'),
        ("name", SUMS, [wrong_name, good[1]], "400", 'unknown input "q"'),
        ("missing", SUMS, good[:1], "400", '"b" is missing'),
        ("model", "nowhere", good, "404", '"nowhere"'),
    ]
    for what, model, tensors, status, says in cases:
        with pytest.raises(InferenceServerException) as caught:
            client.infer(model, tensors)
        assert caught.value.status() == status and says in caught.value.message(), (what, caught.value)
    with pytest.raises(InferenceServerException) as caught:
        client.infer(SUMS, good, model_version="9")
    assert caught.value.status() == "404"
    with pytest.raises(InferenceServerException) as caught:
        client.infer(SUMS, good, outputs=[http.InferRequestedOutput("product")])
    assert caught.value.status() == "400" and "product" in caught.value.message()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"inputs": 1}', 400),
        (b'{"inputs": [{"name": "a", "shape": [1, 2], "datatype": "FP99", "data": [1, 2]}]}', 400),
        (b'{"inputs": [{"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [[1], [2, 3]]}]}', 400),
        (b'{"inputs": [{"name": "a", "shape": [1, 2], "datatype": "FP32", "data": ["x", "y"]}]}', 400),
        (b" " * (70 << 20), 429),
    ],
)
def test_bodies_that_are_no_request(body, status):
    request = urllib.request.Request(f"{URL}/v2/models/{SUMS}/infer", data=body, method="POST")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            pytest.fail(f"answered {answer.status}")
    except urllib.error.HTTPError as error:
        assert error.code == status
        text = error.read().decode()
        assert text.startswith('{"error":') and "Traceback" not in text
    except (ConnectionError, urllib.error.URLError) as error:
        # A server may close the connection under a body that it does not want.
        assert status == 429, error
