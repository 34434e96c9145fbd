"""What grpcurl and gRPC probes ask, run by `test_clients.py`: everything is found out by reflection."""

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from values import ADDRESS, SUMS


@pytest.fixture
def channel():
    with grpc.insecure_channel(ADDRESS) as channel:
        yield channel


def test_a_method_is_found_and_called_by_reflection_alone(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= services
    pool = descriptor_pool.DescriptorPool(database)
    method = pool.FindServiceByName("inference.GRPCInferenceService").FindMethodByName("ModelInfer")
    asked = message_factory.GetMessageClass(method.input_type)(model_name=SUMS)
    for name in ["a", "b"]:
        tensor = asked.inputs.add(name=name, datatype="FP32", shape=[1, 2])
        tensor.contents.fp32_contents.extend([1.0, 2.0])
    answer_type = message_factory.GetMessageClass(method.output_type)
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer_type.FromString,
    )
    answer = call(asked, timeout=30)
    assert list(answer.outputs[0].contents.fp32_contents) == [2.0, 4.0]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_versions_of_reflection_list_the_services(channel, version):
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    answer = next(call(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=30))
    assert "inference.GRPCInferenceService" in {service.name for service in answer.list_services_response.service}
    assert reflection_pb2_grpc.ServerReflectionStub is not None


def test_health_is_told_for_the_server_the_service_and_a_deployment(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ["", "inference.GRPCInferenceService", SUMS]:
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, service
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="nowhere"), timeout=30)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_watcher_hears_of_a_change(channel):
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    models = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    heard = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SUMS), timeout=60)
    assert next(heard).status == health_pb2.HealthCheckResponse.SERVING
    models.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name=SUMS))
    assert next(heard).status == health_pb2.HealthCheckResponse.NOT_SERVING
    models.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=SUMS))
    assert next(heard).status == health_pb2.HealthCheckResponse.SERVING
    heard.cancel()


def test_a_call_ends_at_its_deadline(channel):
    heard = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SUMS), timeout=1)
    next(heard)
    with pytest.raises(grpc.RpcError) as caught:
        next(heard)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
