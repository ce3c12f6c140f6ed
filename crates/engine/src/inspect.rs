//! What one stored object holds, for experts and for bug reports.
//!
//! Invariant: no key material is shown, and of content only what this key may open.
//! Never here: chunks of content; `cat` prints those.

use pack::{
    Announced, Claim, Condemned, Ended, Epoch, Forgotten, Frame, Hold, Lease, PackError, PackId, Seen, SegmentId, Slot,
    SnapshotId, Trailer, Verified, names,
};
use seal::ObjectKind;
use serde_json::{Value, json};

use crate::EngineError;
use crate::index::open_segment;
use crate::keyring::Writes;
use crate::repository::Repository;

impl Repository {
    /// An object by its name in the store (`packs/ab/ab…`, `snapshots/…`), as JSON text.
    ///
    /// # Errors
    ///
    /// Those of the store, and what is wrong with the object.
    pub async fn object(&self, name: &str) -> Result<String, EngineError> {
        let folder = name.split('/').next().unwrap_or_default();
        let value = match folder {
            names::PACKS => self.inspect_pack(name).await?,
            names::INDEX => self.inspect_segment(name).await?,
            _ => {
                let bytes = self.store.get(name).await?;
                self.inspect_small(name, &bytes).map_err(EngineError::object(name))?
            }
        };
        Ok(format!("{value:#}"))
    }

    async fn inspect_pack(&self, name: &str) -> Result<Value, EngineError> {
        let wrong = || EngineError::object(name)(PackError::Inconsistent { what: "its name is not a pack's" });
        let id = PackId::from_hex(names::last(name)).ok_or_else(wrong)?;
        let name = names::pack(&id);
        let info = self
            .store
            .head(&name)
            .await?
            .ok_or_else(|| EngineError::object(&name)(PackError::Truncated { len: 0, what: "a pack" }))?;
        let entry = self.read_pack_entry(id, info.len).await?;
        Ok(json!({ "kind": "pack", "id": id.to_string(), "len": entry.len, "trailer": trailer(&entry.trailer) }))
    }

    async fn inspect_segment(&self, name: &str) -> Result<Value, EngineError> {
        let wrong = || EngineError::object(name)(PackError::Inconsistent { what: "its name is not a segment's" });
        let id = SegmentId::from_hex(names::last(name)).ok_or_else(wrong)?;
        let bytes = self.store.get(name).await?;
        let info = self.store.head(name).await?.ok_or_else(wrong)?;
        let (segment, _) = open_segment(&self.keyring, id, &info, &bytes)?;
        let packs = segment.packs.iter().map(|pack| {
            json!({ "id": pack.id.to_string(), "len": pack.len, "blobs": pack.trailer.blobs.len(), "chunks": pack.trailer.chunks.len() })
        });
        let replaces = segment.replaces.iter().map(ToString::to_string).collect::<Vec<_>>();
        Ok(json!({ "kind": "index segment", "packs": packs.collect::<Vec<_>>(), "replaces": replaces }))
    }

    fn inspect_small(&self, name: &str, bytes: &[u8]) -> Result<Value, PackError> {
        let repository = self.config.repository;
        let index_key = |epoch| self.keyring.index_key_of(epoch);
        let frame = |kind| Frame::decode(bytes, kind, repository);
        match name.split('/').next().unwrap_or_default() {
            names::CONFIG | names::CONFIG_COPY => {
                let config = pack::Config::decode(bytes)?;
                Ok(json!({
                    "kind": "config", "repository": config.repository.to_string(), "owner": config.owner.to_string(),
                    "created_at": config.created_at, "pack_len": config.pack_len, "blob_len": config.blob_len,
                    "conditional_create": config.conditional_create,
                }))
            }
            names::KEYS | names::KEYS_COPY => {
                let slot = Slot::decode(bytes, self.config.owner, repository)?;
                let grants = slot.grants.iter().map(|grant| grant.epoch).collect::<Vec<_>>();
                Ok(json!({
                    "kind": "key slot", "role": slot.certificate.role.to_string(), "created_at": slot.created_at,
                    "identity": slot.certificate.identity.to_string(), "since_epoch": slot.certificate.since_epoch,
                    "protector": format!("{:?}", slot.protector), "grants": grants,
                }))
            }
            names::EPOCHS | names::EPOCHS_COPY => {
                let epoch = Epoch::decode(bytes, self.config.owner, repository)?;
                let grants = epoch.grants.iter().map(|grant| grant.to.to_string()).collect::<Vec<_>>();
                let revoked = epoch.revoked.iter().map(|revoked| revoked.identity.to_string()).collect::<Vec<_>>();
                Ok(
                    json!({ "kind": "epoch", "number": epoch.number, "created_at": epoch.created_at, "grants": grants, "revoked": revoked }),
                )
            }
            names::SNAPSHOTS => self.inspect_snapshot(name, bytes),
            names::CONDEMNED => {
                let frame = frame(ObjectKind::Condemned)?;
                let list = Condemned::open(&frame, index_key, repository)?;
                let counts = self.keyring.certifies(&frame, Writes::Collection);
                let packs = list.packs.iter().map(ToString::to_string).collect::<Vec<_>>();
                Ok(json!({ "kind": "condemned list", "id": list.list.to_string(), "packs": packs, "counts": counts }))
            }
            names::FORGOTTEN => {
                let frame = frame(ObjectKind::Forgotten)?;
                let record = Forgotten::open(&frame, index_key, repository)?;
                let counts = self.keyring.certifies(&frame, Writes::Collection);
                Ok(json!({ "kind": "forgotten", "snapshot": record.snapshot.to_string(), "counts": counts }))
            }
            names::CLAIMS => {
                let record = Claim::open(&frame(ObjectKind::Claim)?, index_key, repository)?;
                Ok(
                    json!({ "kind": "claim", "id": record.claim.to_string(), "host": record.host, "started_at": record.started_at }),
                )
            }
            names::HOLDS => self.inspect_hold(&frame(ObjectKind::Hold)?),
            names::CHECKS => Ok(verified(&Verified::open(&frame(ObjectKind::Verified)?, index_key, repository)?)),
            names::WRITERS => self.inspect_writer(name, bytes),
            _ => Err(PackError::Magic { what: "an object" }),
        }
    }

    fn inspect_writer(&self, name: &str, bytes: &[u8]) -> Result<Value, PackError> {
        let repository = self.config.repository;
        let index_key = |epoch| self.keyring.index_key_of(epoch);
        let frame = |kind| Frame::decode(bytes, kind, repository);
        match names::last(name) {
            "announced" => {
                let record = Announced::open(&frame(ObjectKind::WriterAnnounced)?, index_key, repository)?;
                Ok(
                    json!({ "kind": "writer", "id": record.writer.to_string(), "host": record.host, "started_at": record.started_at }),
                )
            }
            "seen" => {
                let record = Seen::open(&frame(ObjectKind::WriterSeen)?, index_key, repository)?;
                let lists = record.lists.iter().map(ToString::to_string).collect::<Vec<_>>();
                Ok(json!({ "kind": "lists seen", "writer": record.writer.to_string(), "lists": lists }))
            }
            "ended" => {
                let record = Ended::open(&frame(ObjectKind::WriterEnded)?, index_key, repository)?;
                Ok(json!({ "kind": "end of a writer", "writer": record.writer.to_string() }))
            }
            _ => {
                let record = Lease::open(&frame(ObjectKind::WriterLease)?, index_key, repository)?;
                Ok(json!({ "kind": "lease", "writer": record.writer.to_string(), "renewal": record.renewal }))
            }
        }
    }

    fn inspect_hold(&self, frame: &Frame<'_>) -> Result<Value, PackError> {
        let record = Hold::open(frame, |epoch| self.keyring.index_key_of(epoch), self.config.repository)?;
        let counts = self.keyring.certifies(frame, Writes::Collection);
        let lifts = record.lifts.iter().map(ToString::to_string).collect::<Vec<_>>();
        Ok(json!({
            "kind": "hold", "id": record.hold.to_string(), "snapshot": record.snapshot.to_string(),
            "effect": format!("{:?}", record.effect), "lifts": lifts, "reason": record.reason, "counts": counts,
        }))
    }

    fn inspect_snapshot(&self, name: &str, bytes: &[u8]) -> Result<Value, PackError> {
        let repository = self.config.repository;
        let id =
            SnapshotId::from_hex(names::last(name)).ok_or(PackError::Inconsistent { what: "its name is not an id" })?;
        if self.is_tombstone(id, bytes) {
            return Ok(json!({ "kind": "tombstone", "writer": id.to_string() }));
        }
        if Frame::parse(bytes, ObjectKind::Dead).is_ok() {
            return Err(PackError::Inconsistent {
                what: "a tombstone of another writer, or not by a key that may end one",
            });
        }
        let frame = Frame::decode(bytes, ObjectKind::SnapshotStructure, repository)?;
        let keys = |epoch| Some((self.keyring.index_key_of(epoch)?, self.keyring.exchange_of(epoch).cloned()));
        let snapshot = pack::Snapshot::open(&frame, id, keys, repository)?;
        let structure = &snapshot.structure;
        let components = structure.components.iter().map(|component| {
            json!({
                "name": component.name, "kind": component.kind, "root": component.root.map(|root| root.to_string()),
                "entry_count": component.entry_count, "content_len": component.content_len,
                "new_len": component.new_len, "stored_len": component.stored_len,
            })
        });
        Ok(json!({
            "kind": "snapshot", "id": id.to_string(), "signer": frame.signer.to_string(),
            "parent": structure.parent.map(|parent| parent.to_string()), "started_at": structure.started_at,
            "ended_at": structure.ended_at, "host": structure.host, "source": structure.source, "tags": structure.tags,
            "state": format!("{:?}", structure.state), "keep_until": structure.keep_until,
            "components": components.collect::<Vec<_>>(), "has_body": snapshot.body.is_some(),
        }))
    }
}

fn verified(record: &Verified) -> Value {
    let runs = record.runs.iter().map(|run| {
        let packs = run.packs.iter().map(hex::encode).collect::<Vec<_>>();
        json!({ "at": run.at, "is_opened": run.is_opened, "packs": packs })
    });
    let damaged = record.damaged.iter().map(hex::encode).collect::<Vec<_>>();
    json!({ "kind": "record of checks", "id": record.record.to_string(), "runs": runs.collect::<Vec<_>>(), "damaged": damaged })
}

fn trailer(trailer: &Trailer) -> Value {
    let seals = trailer.seals.iter().map(|seal| json!({ "seal_id": hex::encode(seal.seal_id), "epoch": seal.epoch }));
    let blobs = trailer.blobs.iter().map(|blob| {
        let chunks = trailer.chunks_of(blob).iter().map(|(id, len)| json!({ "id": id.to_string(), "len": len }));
        json!({
            "kind": format!("{:?}", blob.kind).to_lowercase(), "offset": blob.offset, "sealed_len": blob.sealed_len,
            "plain_len": blob.plain_len, "seal": blob.seal, "counter": blob.counter, "chunks": chunks.collect::<Vec<_>>(),
        })
    });
    json!({
        "class": format!("{:?}", trailer.class).to_lowercase(),
        "seals": seals.collect::<Vec<_>>(), "blobs": blobs.collect::<Vec<_>>(),
    })
}
