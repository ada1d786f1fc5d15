//! The key that signs the heads of chains.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::{
    clock::UnixMs,
    id::SkuId,
    order::entry::{Digest, from_hex, hex},
};

/// An ed25519 public key; `key` is its 32 bytes in lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    pub algorithm: String,
    pub key: String,
}

pub(super) struct Signer {
    pair: Ed25519KeyPair,
}

impl Signer {
    pub fn new(seed: &[u8; 32]) -> Self {
        Self { pair: Ed25519KeyPair::from_seed_unchecked(seed).expect("every 32 bytes are an ed25519 seed") }
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey { algorithm: "ed25519".to_owned(), key: hex(self.pair.public_key().as_ref()) }
    }

    /// The signature of a head, in hex.
    pub fn sign(&self, sku: &SkuId, n: u64, hash: &Digest, at: UnixMs) -> String {
        hex(self.pair.sign(signed_text(sku, n, hash, at).as_bytes()).as_ref())
    }
}

/// What is signed: canonical JSON of the head with its SKU, without the signature.
fn signed_text(sku: &SkuId, n: u64, hash: &Digest, at: UnixMs) -> String {
    format!("{{\"at\":{},\"hash\":\"{hash}\",\"n\":{n},\"sku\":\"{sku}\"}}", at.0)
}

/// Whether `signature` is that of `key` under this head.
pub fn is_signed(key: &str, signature: &str, sku: &SkuId, n: u64, hash: &Digest, at: UnixMs) -> bool {
    let (Some(key), Some(signature)) = (from_hex::<32>(key), from_hex::<64>(signature)) else {
        return false;
    };
    UnparsedPublicKey::new(&ED25519, key).verify(signed_text(sku, n, hash, at).as_bytes(), &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_head_and_one_key() {
        let (signer, sku) = (Signer::new(&[7; 32]), "scarf".parse().unwrap());
        let (hash, at) = (Digest::of(b"x"), UnixMs(5));
        let (key, signature) = (signer.public_key().key, signer.sign(&sku, 3, &hash, at));
        assert!(is_signed(&key, &signature, &sku, 3, &hash, at));
        assert!(!is_signed(&key, &signature, &sku, 4, &hash, at));
        assert!(!is_signed(&key, &signature, &"shawl".parse().unwrap(), 3, &hash, at));
        assert!(!is_signed(&Signer::new(&[8; 32]).public_key().key, &signature, &sku, 3, &hash, at));
        assert!(!is_signed(&key, "zz", &sku, 3, &hash, at));
    }
}
