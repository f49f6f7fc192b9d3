//! A real runtime: CRI v1 over a Unix socket.
//!
//! Owns: the connection and the deadline of each call. Must not know: why a call is made. Wire
//! types stop here and in `convert`. A newcomer's trap: the channel connects lazily and again by
//! itself, so a restarted containerd needs no new client.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_cri::v1;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{
    Auth, ContainerSpec, ExecOutput, Health, Image, Observed, PodRecord, Result, Runtime,
    RuntimeError, SandboxSpec, Version, convert, label,
};
use crate::limits::{PULL_MAX, RUNTIME_CALL_MAX};

/// A CRI runtime. Clones share the connection.
#[derive(Clone)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Cri {
    /// A client of the runtime behind this socket. Connects at the first call.
    pub fn connect(socket: &Path) -> Self {
        let socket = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel =
            Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
        // A list of all containers can pass gRPC's default of 4 MiB; the kubelet allows 16 MiB.
        const MESSAGE_BYTES_MAX: usize = 16 << 20;
        Self {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
        }
    }

    async fn sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatus> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let mut client = self.runtime.clone();
        let answer = call(RUNTIME_CALL_MAX, client.pod_sandbox_status(request)).await?;
        Ok(answer.status.unwrap_or_default())
    }

    async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus> {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let mut client = self.runtime.clone();
        let answer = call(RUNTIME_CALL_MAX, client.container_status(request)).await?;
        Ok(answer.status.unwrap_or_default())
    }

    async fn sandboxes(&self, labels: Labels) -> Result<Vec<v1::PodSandbox>> {
        let filter = v1::PodSandboxFilter { label_selector: labels, ..Default::default() };
        let request = v1::ListPodSandboxRequest { filter: Some(filter) };
        let mut client = self.runtime.clone();
        Ok(call(RUNTIME_CALL_MAX, client.list_pod_sandbox(request)).await?.items)
    }

    async fn containers(&self, labels: Labels) -> Result<Vec<v1::Container>> {
        let filter = v1::ContainerFilter { label_selector: labels, ..Default::default() };
        let request = v1::ListContainersRequest { filter: Some(filter) };
        let mut client = self.runtime.clone();
        Ok(call(RUNTIME_CALL_MAX, client.list_containers(request)).await?.containers)
    }
}

type Labels = std::collections::HashMap<String, String>;

/// Waits for an answer, but not longer than `patience`.
async fn call<T>(
    patience: Duration,
    answer: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    match tokio::time::timeout(patience, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(RuntimeError::Refused {
            code: go_code(status.code()),
            message: status.message().to_owned(),
        }),
        Err(_) => Err(RuntimeError::Timeout),
    }
}

/// gRPC's codes as Go prints them, which is what users see in events.
fn go_code(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::Ok => "OK",
        tonic::Code::Cancelled => "Canceled",
        tonic::Code::Unknown => "Unknown",
        tonic::Code::InvalidArgument => "InvalidArgument",
        tonic::Code::DeadlineExceeded => "DeadlineExceeded",
        tonic::Code::NotFound => "NotFound",
        tonic::Code::AlreadyExists => "AlreadyExists",
        tonic::Code::PermissionDenied => "PermissionDenied",
        tonic::Code::ResourceExhausted => "ResourceExhausted",
        tonic::Code::FailedPrecondition => "FailedPrecondition",
        tonic::Code::Aborted => "Aborted",
        tonic::Code::OutOfRange => "OutOfRange",
        tonic::Code::Unimplemented => "Unimplemented",
        tonic::Code::Internal => "Internal",
        tonic::Code::Unavailable => "Unavailable",
        tonic::Code::DataLoss => "DataLoss",
        tonic::Code::Unauthenticated => "Unauthenticated",
    }
}

/// Gone already is as good as done.
fn done(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

#[async_trait::async_trait]
impl Runtime for Cri {
    async fn version(&self) -> Result<Version> {
        let request = v1::VersionRequest { version: "v1".to_owned() };
        let mut client = self.runtime.clone();
        let answer = call(Duration::from_secs(10), client.version(request)).await?;
        Ok(Version { name: answer.runtime_name, version: answer.runtime_version })
    }

    async fn health(&self) -> Result<Health> {
        let mut client = self.runtime.clone();
        let request = v1::StatusRequest { verbose: false };
        let answer = call(Duration::from_secs(10), client.status(request)).await?;
        Ok(convert::health(&answer.status.unwrap_or_default()))
    }

    async fn list(&self) -> Result<BTreeMap<String, PodRecord>> {
        let sandboxes = self.sandboxes(Labels::new()).await?;
        let containers = self.containers(Labels::new()).await?;
        Ok(convert::records(sandboxes, containers))
    }

    async fn observe(&self, uid: &str) -> Result<Observed> {
        let of_pod: Labels = [(label::POD_UID.to_owned(), uid.to_owned())].into();
        let mut observed = Observed::default();
        for sandbox in self.sandboxes(of_pod.clone()).await? {
            match self.sandbox_status(&sandbox.id).await {
                Ok(status) => observed.sandboxes.push(convert::sandbox(status)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        for container in self.containers(of_pod).await? {
            match self.container_status(&container.id).await {
                Ok(status) => {
                    observed.containers.push(convert::container(status, container.pod_sandbox_id));
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        observed.sort();
        Ok(observed)
    }

    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<String> {
        let request = v1::RunPodSandboxRequest {
            config: Some(convert::sandbox_config(spec)),
            runtime_handler: String::new(),
        };
        let mut client = self.runtime.clone();
        Ok(call(RUNTIME_CALL_MAX, client.run_pod_sandbox(request)).await?.pod_sandbox_id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let mut client = self.runtime.clone();
        done(call(RUNTIME_CALL_MAX, client.stop_pod_sandbox(request)).await.map(drop))
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let mut client = self.runtime.clone();
        done(call(RUNTIME_CALL_MAX, client.remove_pod_sandbox(request)).await.map(drop))
    }

    async fn create_container(
        &self,
        sandbox: &str,
        spec: &ContainerSpec,
        sandbox_spec: &SandboxSpec,
    ) -> Result<String> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(convert::container_config(spec)),
            sandbox_config: Some(convert::sandbox_config(sandbox_spec)),
        };
        let mut client = self.runtime.clone();
        Ok(call(RUNTIME_CALL_MAX, client.create_container(request)).await?.container_id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let request = v1::StartContainerRequest { container_id: id.to_owned() };
        let mut client = self.runtime.clone();
        call(RUNTIME_CALL_MAX, client.start_container(request)).await.map(drop)
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let request = v1::StopContainerRequest {
            container_id: id.to_owned(),
            timeout: grace.as_secs() as i64,
        };
        let mut client = self.runtime.clone();
        done(call(grace + RUNTIME_CALL_MAX, client.stop_container(request)).await.map(drop))
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
        let mut client = self.runtime.clone();
        done(call(RUNTIME_CALL_MAX, client.remove_container(request)).await.map(drop))
    }

    async fn exec(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        let request = v1::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command.to_vec(),
            timeout: timeout.as_secs().max(1) as i64,
        };
        let mut client = self.runtime.clone();
        let answer = call(timeout + Duration::from_secs(10), client.exec_sync(request)).await?;
        Ok(ExecOutput { code: answer.exit_code, stdout: answer.stdout, stderr: answer.stderr })
    }

    async fn reopen_log(&self, id: &str) -> Result<()> {
        let request = v1::ReopenContainerLogRequest { container_id: id.to_owned() };
        let mut client = self.runtime.clone();
        call(RUNTIME_CALL_MAX, client.reopen_container_log(request)).await.map(drop)
    }

    async fn image(&self, name: &str) -> Result<Option<Image>> {
        let request =
            v1::ImageStatusRequest { image: Some(convert::image_spec(name)), verbose: false };
        let mut client = self.images.clone();
        let answer = call(RUNTIME_CALL_MAX, client.image_status(request)).await?;
        Ok(answer.image.map(convert::image))
    }

    async fn images(&self) -> Result<Vec<Image>> {
        let mut client = self.images.clone();
        let request = v1::ListImagesRequest { filter: None };
        let answer = call(RUNTIME_CALL_MAX, client.list_images(request)).await?;
        Ok(answer.images.into_iter().map(convert::image).collect())
    }

    async fn pull(&self, name: &str, auth: Option<&Auth>) -> Result<String> {
        let request = v1::PullImageRequest {
            image: Some(convert::image_spec(name)),
            auth: auth.map(convert::auth),
            sandbox_config: None,
        };
        let mut client = self.images.clone();
        Ok(call(PULL_MAX, client.pull_image(request)).await?.image_ref)
    }
}
