//! TLS as Postgres begins it, and who is believed.
//!
//! | mode | encrypted | vouched for by an authority | has the host's name |
//! |---|---|---|---|
//! | prefer, require | yes | - | - |
//! | verify-ca | yes | yes | - |
//! | verify-full | yes | yes | yes |
//!
//! Invariant: whatever the mode, the server proves that it has the key of the certificate that it shows.
//! Never here: the system's OpenSSL; names in a certificate's subject, since only its alternative names count; and
//! certificates of X.509 version 1, which fail in every mode.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tokio_rustls::TlsConnector;

use super::failure::unfit;
use super::server::{Tls, TlsMode};
use crate::{SourceError, blocking};

/// What opens TLS sessions as `tls` wants them.
pub(super) async fn connector(tls: &Tls) -> Result<TlsConnector, SourceError> {
    let tls = tls.clone();
    let config = blocking::run(move || config(&tls)).await??;
    Ok(TlsConnector::from(Arc::new(config)))
}

fn config(tls: &Tls) -> Result<ClientConfig, SourceError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let checks_roots = match tls.mode {
        TlsMode::VerifyCa | TlsMode::VerifyFull => true,
        TlsMode::Require => tls.roots.is_some(),
        TlsMode::Prefer | TlsMode::Disable => false,
    };
    let inner = match checks_roots {
        true => Some(verifier(tls, &provider)?),
        false => None,
    };
    let checks_name = tls.mode == TlsMode::VerifyFull;
    let verifier = Arc::new(Verifier { inner, checks_name, provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unfit(&format!("TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match &tls.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            let (chain, key) = (certificates(chain)?, private_key(key)?);
            builder.with_client_auth_cert(chain, key).map_err(|error| unfit(&format!("own certificate: {error}")))
        }
    }
}

fn verifier(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, SourceError> {
    let mut roots = RootCertStore::empty();
    let found = match &tls.roots {
        Some(path) => certificates(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(found);
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| unfit(&format!("authorities: {error}")))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| unfit(&format!("certificates of {}: {error}", path.display())))?;
    match found.is_empty() {
        true => Err(unfit(&format!("{} holds no certificate", path.display()))),
        false => Ok(found),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, SourceError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unfit(&format!("key of {}: {error}", path.display())))
}

/// What binds a SCRAM proof to a session (`tls-server-end-point`): the hash of the server's certificate, by the hash
/// of the certificate's own signature. `None` where that is a signature without one, such as Ed25519.
pub(super) fn binding(certificate: &[u8]) -> Option<Vec<u8>> {
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, … }, … }
    let (whole, _) = element(certificate, 0x30)?;
    let (_, rest) = element(whole, 0x30)?;
    let (algorithm, _) = element(rest, 0x30)?;
    let (algorithm, _) = element(algorithm, 0x06)?;
    const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA2: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    let hash = match (algorithm.strip_prefix(&RSA), algorithm.strip_prefix(&ECDSA_SHA2)) {
        // MD5 and SHA-1 count as SHA-256 (RFC 5929).
        (Some([4 | 5 | 11]), _) | (_, Some([2])) => Sha256::new_with_prefix(certificate).finalize().to_vec(),
        (Some([12]), _) | (_, Some([3])) => Sha384::new_with_prefix(certificate).finalize().to_vec(),
        (Some([13]), _) | (_, Some([4])) => Sha512::new_with_prefix(certificate).finalize().to_vec(),
        _ => return None,
    };
    Some(hash)
}

/// A DER element's content, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first().filter(|(first, _)| **first == tag)?;
    debug_assert_eq!(first, tag);
    let (&len, rest) = rest.split_first()?;
    let (len, rest) = match len {
        0..=0x7f => (usize::from(len), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(len - 0x80))?;
            (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

/// Believes whom the mode believes.
#[derive(Debug)]
struct Verifier {
    /// Checks the chain and the name; `None` believes everybody.
    inner: Option<Arc<WebPkiServerVerifier>>,
    checks_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(own, others, name, ocsp, now) {
            // The chain is checked first: a wrong name means that the chain was right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
