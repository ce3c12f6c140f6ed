//! TLS to servers: rustls with ring, the system's authorities or one's own.
//!
//! Invariant: the server's certificate is always checked, against its name too.
//! Never here: who connects where.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::blocking;
use crate::error::{Fault, SourceError};

/// How to trust a server and be trusted.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// PEM file of the authorities that may vouch for the server; the system's if `None`.
    pub authorities: Option<PathBuf>,
    /// PEM files of our own certificate chain and its key, for servers that ask for them.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name in the server's certificate, if it is not the host's.
    pub server_name: Option<String>,
}

impl Tls {
    /// Greets the server over a connection that is open already.
    pub(crate) async fn connect(
        &self,
        place: &str,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, SourceError> {
        let config = self.client(place).await?;
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let server_name = ServerName::try_from(name)
            .map_err(|error| SourceError::server(place, Fault::Setting, format!("not a name for TLS: {error}")))?;
        let greeted = TlsConnector::from(Arc::new(config)).connect(server_name, stream).await;
        greeted.map_err(|error| SourceError::server(place, Fault::Unreachable, format!("TLS fails: {error}")))
    }

    /// What a client needs to greet servers.
    pub(crate) async fn client(&self, place: &str) -> Result<ClientConfig, SourceError> {
        let (tls, owned) = (self.clone(), place.to_owned());
        blocking::run(move || tls.config(&owned)).await?
    }

    /// For a client that never greets anybody: it still wants a configuration.
    pub(crate) fn of_nobody(place: &str) -> Result<ClientConfig, SourceError> {
        let versions = Self::builder().with_safe_default_protocol_versions();
        let builder = versions.map_err(|error| SourceError::server(place, Fault::Setting, error.to_string()))?;
        Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    }

    fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVersions> {
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
    }

    fn config(&self, place: &str) -> Result<ClientConfig, SourceError> {
        let wrong = |what: String| SourceError::server(place, Fault::Setting, what);
        let versions = Self::builder().with_safe_default_protocol_versions();
        let builder = versions.map_err(|error| wrong(error.to_string()))?.with_root_certificates(self.roots(place)?);
        match &self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some((chain, key)) => {
                let read = PrivateKeyDer::from_pem_file(key);
                let key = read.map_err(|error| wrong(format!("key {} cannot be read: {error}", key.display())))?;
                let with_key = builder.with_client_auth_cert(certificates(place, chain)?, key);
                with_key.map_err(|error| wrong(format!("the client's certificate does not fit: {error}")))
            }
        }
    }

    fn roots(&self, place: &str) -> Result<RootCertStore, SourceError> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(path) => _ = roots.add_parsable_certificates(certificates(place, path)?),
            None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        }
        if roots.is_empty() {
            let what = "there are no certificate authorities to trust";
            return Err(SourceError::server(place, Fault::Setting, what));
        }
        Ok(roots)
    }
}

fn certificates(place: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|error| {
        let what = format!("certificates {} cannot be read: {error}", path.display());
        SourceError::server(place, Fault::Setting, what)
    })
}
