//! The frame: the shape of every object but packs.
//!
//! ```text
//! | magic "BKST" | version u16 | kind u8 | section count u8 | count × (len u32, bytes)
//! | certificate (len u32, bytes) | signer (32 B) | signature (64 B) |
//! ```
//!
//! The signature covers everything before it. What the sections hold is the business of each kind. The certificate says
//! what the owner lets the signer write; what is the owner's own has none. It travels with each object, so that losing a
//! key slot makes nothing unbelievable that was written with it.
//!
//! Invariant: a frame that decodes has exactly its own bytes; nothing may follow.
//! Never here: whether a role may write an object of this kind.

use seal::{Identity, IdentityKey, ObjectKind, RepositoryId, SIGNATURE_LEN};

use crate::columns::{Cursor, count};
use crate::{Certificate, FORMAT_VERSION, PackError, Role, codec};

const MAGIC: &[u8; 4] = b"BKST";
const SECTIONS_MAX: usize = 8;

/// Who writes: a signing key, and what the owner lets it write.
#[derive(Debug, Clone)]
pub struct Signer {
    key: IdentityKey,
    certificate: Option<Certificate>,
}

impl Signer {
    /// A key that the owner certified.
    #[must_use]
    pub const fn certified(key: IdentityKey, certificate: Certificate) -> Self {
        Self { key, certificate: Some(certificate) }
    }

    /// The owner's key, or one whose object holds its certificate itself.
    #[must_use]
    pub const fn bare(key: IdentityKey) -> Self {
        Self { key, certificate: None }
    }
}

/// A decoded frame; borrows its sections from the object's bytes.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Who says to have signed it.
    pub signer: Identity,
    /// What the owner lets the signer write, as the frame says: see [`Frame::role`].
    certificate: Option<Certificate>,
    /// The sections.
    pub sections: Vec<&'a [u8]>,
    kind: ObjectKind,
    signed: &'a [u8],
    signature: [u8; SIGNATURE_LEN],
}

impl<'a> Frame<'a> {
    /// Lays out and signs an object.
    ///
    /// # Errors
    ///
    /// [`PackError::Inconsistent`] if a section is longer than 4 GiB.
    pub fn encode(
        kind: ObjectKind,
        sections: &[&[u8]],
        signer: &Signer,
        repository: RepositoryId,
    ) -> Result<Vec<u8>, PackError> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.push(kind as u8);
        out.push(sections.len() as u8);
        for section in sections {
            out.extend_from_slice(&count(section.len())?);
            out.extend_from_slice(section);
        }
        let certificate = signer.certificate.as_ref().map(codec::encode).transpose()?.unwrap_or_default();
        out.extend_from_slice(&count(certificate.len())?);
        out.extend_from_slice(&certificate);
        out.extend_from_slice(&signer.key.identity().0);
        let signature = signer.key.sign(&out, repository, kind);
        out.extend_from_slice(&signature);
        Ok(out)
    }

    /// Takes an object apart without believing it: call [`Frame::verify`] next.
    ///
    /// # Errors
    ///
    /// [`PackError::Magic`], [`PackError::Version`], [`PackError::Kind`] or [`PackError::Truncated`].
    pub fn parse(bytes: &'a [u8], kind: ObjectKind) -> Result<Self, PackError> {
        let mut cursor = Cursor::new(bytes, "a whole object");
        if &cursor.array::<4>()? != MAGIC {
            return Err(PackError::Magic { what: "an object" });
        }
        let version = u16::from_le_bytes(cursor.array()?);
        if version != FORMAT_VERSION {
            return Err(PackError::Version { version });
        }
        let [found, sections] = cursor.array()?;
        if found != kind as u8 {
            return Err(PackError::Kind { found, expected: kind as u8 });
        }
        if usize::from(sections) > SECTIONS_MAX {
            return Err(PackError::Inconsistent { what: "too many sections" });
        }
        let read = |cursor: &mut Cursor<'a>| cursor.u32().and_then(|len| cursor.take(len as usize));
        let sections = (0..sections).map(|_| read(&mut cursor)).collect::<Result<Vec<_>, _>>()?;
        let certificate = match cursor.u32()? {
            0 => None,
            len => Some(codec::decode(cursor.take(len as usize)?)?),
        };
        let signer = Identity(cursor.array()?);
        let signature = cursor.array()?;
        cursor.end()?;
        let signed = bytes.split_at_checked(bytes.len() - SIGNATURE_LEN).map(|(signed, _)| signed).unwrap_or_default();
        Ok(Self { signer, certificate, sections, kind, signed, signature })
    }

    /// Checks the signature by the signer whom the frame names.
    ///
    /// # Errors
    ///
    /// [`PackError::Seal`] if it does not verify.
    pub fn verify(&self, repository: RepositoryId) -> Result<(), PackError> {
        seal::verify(self.signed, repository, self.kind, self.signer, &self.signature).map_err(PackError::seal("its"))
    }

    /// [`Frame::parse`], then [`Frame::verify`].
    ///
    /// # Errors
    ///
    /// Those of both.
    pub fn decode(bytes: &'a [u8], kind: ObjectKind, repository: RepositoryId) -> Result<Self, PackError> {
        let frame = Self::parse(bytes, kind)?;
        frame.verify(repository)?;
        Ok(frame)
    }

    /// What `owner` lets the signer write; none if the owner does not vouch for it.
    #[must_use]
    pub fn role(&self, owner: Identity, repository: RepositoryId) -> Option<Role> {
        if self.signer == owner {
            return Some(Role::Owner);
        }
        let certificate = self.certificate.as_ref().filter(|certificate| certificate.identity == self.signer)?;
        certificate.verify(owner, repository).ok().map(|()| certificate.role)
    }

    /// What the frame carries of its signer's certificate, verified by nobody yet.
    #[must_use]
    pub const fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// The domain that the signer's certificate names; none for the owner, who is in all of them. Only as good as
    /// [`Frame::role`].
    #[must_use]
    pub fn domain(&self) -> Option<[u8; 16]> {
        self.certificate.as_ref().map(|certificate| certificate.domain)
    }

    /// Section `at`.
    ///
    /// # Errors
    ///
    /// [`PackError::Inconsistent`] if there are fewer.
    pub fn section(&self, at: usize) -> Result<&'a [u8], PackError> {
        self.sections.get(at).copied().ok_or(PackError::Inconsistent { what: "a section is missing" })
    }
}
