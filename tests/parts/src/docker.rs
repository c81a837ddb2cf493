//! Containers of pinned images, through Testcontainers.

use std::process::{Command, Stdio};

use testcontainers::core::error::TestcontainersError;
use testcontainers::runners::SyncRunner;
use testcontainers::{Container, ContainerRequest, GenericImage};

use crate::{PartError, apart};

/// A container that is removed when dropped.
pub(crate) struct Running {
    container: Option<Container<GenericImage>>,
}

impl Running {
    /// Starts a container and waits until it says that it is ready.
    pub(crate) fn start(image: &str, request: ContainerRequest<GenericImage>) -> Result<Self, PartError> {
        apart(|| request.start())
            .map(|container| Self { container: Some(container) })
            .map_err(|source| PartError::Container { image: image.to_owned(), source: Box::new(source) })
    }

    pub(crate) fn id(&self) -> &str {
        self.container.as_ref().map_or("", Container::id)
    }

    /// Starts it again after it was killed. Does not wait for readiness.
    pub(crate) fn start_again(&self, image: &str) -> Result<(), PartError> {
        let Some(container) = &self.container else { return Ok(()) };
        let started: Result<(), TestcontainersError> = apart(|| container.start());
        started.map_err(|source| PartError::Container { image: image.to_owned(), source: Box::new(source) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let container = self.container.take();
        apart(move || drop(container));
    }
}

/// Whether a Docker daemon answers and has this image; says which kind it is.
pub(crate) fn image(tag: &str) -> Option<String> {
    let label = Command::new("docker")
        .args(["image", "inspect", "-f", "{{index .Config.Labels \"local-substitute\"}}", tag])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    if !label.status.success() {
        return None;
    }
    let substitute = String::from_utf8_lossy(&label.stdout).trim() == "1";
    Some(format!("{tag} ({})", if substitute { "local-substitute" } else { "official" }))
}

/// Sends SIGKILL to everything in a container.
pub(crate) fn kill(id: &str) -> Result<(), PartError> {
    let killed = Command::new("docker").args(["kill", "-s", "KILL", id]).stdout(Stdio::null()).status();
    killed.map(|_| ()).map_err(|source| PartError::Program { program: "docker kill", source })
}
