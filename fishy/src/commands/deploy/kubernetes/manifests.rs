use anyhow::Result;
use serde_json::{Map, Value, json};

/// The objects of one deployment.
pub struct Manifests {
    pub deployment: String,
    pub model: String,
    pub object_name: String,
    pub namespace: String,
    pub release: String,
    pub secret: String,
    pub image: String,
    pub min_replicas: u32,
    pub max_replicas: u32,
    pub queue_ms: u32,
    pub cpu_percent: u32,
    pub cpu: String,
    pub memory: String,
}

/// The port in the pod.
const PORT: u16 = 5000;
/// The image's user.
const USER: u32 = 10_001;
/// How long open requests and unsent prediction records have when a pod ends.
const GRACE_S: u32 = 60;

impl Manifests {
    /// File names and their text.
    pub fn files(&self) -> Result<[(&'static str, String); 3]> {
        Ok([
            ("deployment.yaml", serde_yaml_ng::to_string(&self.pods())?),
            ("service.yaml", serde_yaml_ng::to_string(&self.service())?),
            ("autoscaler.yaml", serde_yaml_ng::to_string(&self.autoscaler())?),
        ])
    }

    /// All objects as one stream of documents.
    pub fn yaml(&self) -> Result<String> {
        Ok(self.files()?.into_iter().flat_map(|(_, text)| ["---\n".to_owned(), text]).collect())
    }

    /// What tells the pods of this deployment from all others.
    fn selector(&self) -> Map<String, Value> {
        let mut labels = Map::new();
        labels.insert("app.kubernetes.io/name".into(), "fishy".into());
        labels.insert("app.kubernetes.io/instance".into(), self.release.clone().into());
        labels.insert("app.kubernetes.io/component".into(), "inference".into());
        labels.insert("fishy-watch/deployment".into(), self.deployment.clone().into());
        labels
    }

    fn metadata(&self) -> Value {
        let mut labels = self.selector();
        labels.insert("app.kubernetes.io/part-of".into(), "fishy-watch".into());
        json!({
            "name": self.object_name,
            "namespace": self.namespace,
            "labels": labels,
            "annotations": {"fishy-watch/model": self.model},
        })
    }

    /// The number of pods is the autoscaler's to say.
    fn pods(&self) -> Value {
        let restricted = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]},
        });
        let probe = |path: &str| json!({"path": path, "port": "http"});
        let container = json!({
            "name": "fishy",
            "image": self.image,
            "args": ["serve", "--service", "deployment"],
            "env": [{"name": "FISHY__DEPLOYMENT__ONLY", "value": json!([self.deployment]).to_string()}],
            "envFrom": [
                {"configMapRef": {"name": self.release}},
                {"secretRef": {"name": self.secret}},
            ],
            "ports": [{"name": "http", "containerPort": PORT}],
            "startupProbe": {"httpGet": probe("/health"), "periodSeconds": 2, "failureThreshold": 60},
            "livenessProbe": {"httpGet": probe("/health"), "periodSeconds": 10, "timeoutSeconds": 5},
            "readinessProbe": {"httpGet": probe("/ready/traffic"), "periodSeconds": 5, "timeoutSeconds": 5},
            // The pod goes out of the Service before it stops listening.
            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
            "resources": {
                "requests": {"cpu": self.cpu, "memory": self.memory},
                "limits": {"memory": self.memory},
            },
            "securityContext": restricted,
            "volumeMounts": [
                {"name": "data", "mountPath": "/var/lib/fishy"},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        });
        let mut labels = self.selector();
        labels.insert("app.kubernetes.io/part-of".into(), "fishy-watch".into());
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self.metadata(),
            "spec": {
                "selector": {"matchLabels": self.selector()},
                "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {
                    "metadata": {
                        "labels": labels,
                        "annotations": {
                            "prometheus.io/scrape": "true",
                            "prometheus.io/port": PORT.to_string(),
                            "prometheus.io/path": "/metrics",
                        },
                    },
                    "spec": {
                        "automountServiceAccountToken": false,
                        "enableServiceLinks": false,
                        "serviceAccountName": self.release,
                        "terminationGracePeriodSeconds": GRACE_S,
                        "securityContext": {
                            "runAsNonRoot": true,
                            "runAsUser": USER,
                            "runAsGroup": USER,
                            "fsGroup": USER,
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "topologySpreadConstraints": [{
                            "maxSkew": 1,
                            "topologyKey": "kubernetes.io/hostname",
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "labelSelector": {"matchLabels": self.selector()},
                        }],
                        "containers": [container],
                        "volumes": [
                            {"name": "data", "emptyDir": {"sizeLimit": "4Gi"}},
                            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
                        ],
                    },
                },
            },
        })
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(),
            "spec": {
                "type": "ClusterIP",
                "selector": self.selector(),
                "ports": [{"name": "http", "port": PORT, "targetPort": "http", "appProtocol": "http"}],
            },
        })
    }

    /// By the time that requests wait for their model, which the metrics adapter serves; by CPU where it does not.
    fn autoscaler(&self) -> Value {
        json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": self.metadata(),
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.object_name},
                "minReplicas": self.min_replicas,
                "maxReplicas": self.max_replicas,
                "metrics": [
                    {
                        "type": "Pods",
                        "pods": {
                            "metric": {
                                "name": "fishy_inference_queue_seconds",
                                "selector": {"matchLabels": {"deployment": self.deployment}},
                            },
                            "target": {"type": "AverageValue", "averageValue": seconds(self.queue_ms)},
                        },
                    },
                    {
                        "type": "Resource",
                        "resource": {
                            "name": "cpu",
                            "target": {"type": "Utilization", "averageUtilization": self.cpu_percent},
                        },
                    },
                ],
                "behavior": {
                    "scaleUp": {"stabilizationWindowSeconds": 0},
                    "scaleDown": {"stabilizationWindowSeconds": 300},
                },
            },
        })
    }
}

/// Milliseconds as a quantity of seconds: `20m` are 0.02 s.
fn seconds(ms: u32) -> String {
    format!("{ms}m")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifests() -> Manifests {
        Manifests {
            deployment: "oxygen".into(),
            model: "models:/oxygen@champion".into(),
            object_name: "fishy-inference-oxygen".into(),
            namespace: "fishy".into(),
            release: "fishy".into(),
            secret: "fishy-secrets".into(),
            image: "fishy-watch/fishy:1".into(),
            min_replicas: 2,
            max_replicas: 5,
            queue_ms: 20,
            cpu_percent: 70,
            cpu: "500m".into(),
            memory: "512Mi".into(),
        }
    }

    #[test]
    fn service_and_autoscaler_point_at_the_pods() {
        let manifests = manifests();
        let (pods, service, autoscaler) = (manifests.pods(), manifests.service(), manifests.autoscaler());
        let labels = pods["spec"]["template"]["metadata"]["labels"].as_object().unwrap();
        for selector in [&service["spec"]["selector"], &pods["spec"]["selector"]["matchLabels"]] {
            assert!(
                selector.as_object().unwrap().iter().all(|(key, value)| labels.get(key) == Some(value)),
                "{selector}"
            );
        }
        assert_eq!(autoscaler["spec"]["scaleTargetRef"]["name"], pods["metadata"]["name"]);
        assert_eq!(pods["spec"]["replicas"], Value::Null, "it would fight with the autoscaler");
        assert_eq!(autoscaler["spec"]["metrics"][0]["pods"]["target"]["averageValue"], "20m");
    }

    #[test]
    fn the_pods_serve_this_deployment_alone() {
        let pods = manifests().pods();
        let variable = &pods["spec"]["template"]["spec"]["containers"][0]["env"][0];
        assert_eq!(variable["name"], "FISHY__DEPLOYMENT__ONLY");
        assert_eq!(variable["value"], "[\"oxygen\"]");
    }

    #[test]
    fn the_documents_read_back() {
        let manifests = manifests();
        let text = manifests.yaml().unwrap();
        let kinds: Vec<String> = text
            .split("---\n")
            .filter(|document| !document.is_empty())
            .map(|document| serde_yaml_ng::from_str::<Value>(document).unwrap()["kind"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(kinds, ["Deployment", "Service", "HorizontalPodAutoscaler"]);
    }
}
