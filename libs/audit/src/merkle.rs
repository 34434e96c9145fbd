use std::fmt;
use std::str::FromStr;

use fishy_core::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// A SHA-256 in the tree; 64 lower-case hexadecimal digits in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash)
            .map_err(|_| Error::invalid(format!("{text:.80?} is not a hash of 64 hexadecimal digits")))?;
        Ok(Self(hash))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The hash of a leaf: SHA-256 of 0x00 and the data (RFC 6962, 2.1).
pub fn leaf_hash(data: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(data).finalize().into())
}

/// The hash of an inner node: SHA-256 of 0x01 and the hashes of its children (RFC 6962, 2.1).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// The root of these leaves, computed from scratch (RFC 6962, 2.1): for tests, and for small trees.
pub fn root_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split_of(leaves.len() as u64) as usize);
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// The largest power of two below `count`, which must be at least 2: how many leaves are on the left.
pub(crate) fn split_of(count: u64) -> u64 {
    1 << (count.max(2) - 1).ilog2()
}

fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

/// Where a node of a complete subtree is: its `index`-th on its level, over the leaves
/// `index << level .. (index + 1) << level`. Level 0 are the leaves. Such a node never changes once it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId {
    /// How far above the leaves.
    pub level: u32,
    /// Counted from the left, from 0.
    pub index: u64,
}

/// A node with its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Where it is.
    pub id: NodeId,
    /// Its hash.
    pub hash: Hash,
}

/// What one append added to the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The index of the new leaf.
    pub index: u64,
    /// The leaf, and every inner node that it completed: two nodes on average. Stored under their ids, they answer any
    /// proof with O(log n) look-ups.
    pub nodes: Vec<Node>,
}

/// The right edge of a Merkle tree (its compact range): all that is needed to append and to know the root, in
/// O(log n) space. Store it with each append.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct MerkleLog {
    size: u64,
    /// The roots of the complete subtrees that the leaves fall into, from the left: one for each bit of `size`.
    peaks: Vec<Hash>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    size: u64,
    peaks: Vec<Hash>,
}

impl From<MerkleLog> for Stored {
    fn from(log: MerkleLog) -> Self {
        Self { size: log.size, peaks: log.peaks }
    }
}

impl TryFrom<Stored> for MerkleLog {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Self> {
        Self::from_parts(stored.size, stored.peaks)
    }
}

impl MerkleLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// A log as it was left; an error if the number of peaks does not fit the size.
    pub fn from_parts(size: u64, peaks: Vec<Hash>) -> Result<Self> {
        if peaks.len() != size.count_ones() as usize {
            return Err(Error::invalid(format!(
                "a log of {size} leaves has {} peaks, not {}",
                size.count_ones(),
                peaks.len()
            )));
        }
        Ok(Self { size, peaks })
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, from the left.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds a leaf at the end.
    pub fn append(&mut self, leaf: Hash) -> Appended {
        let index = self.size;
        let mut node = Node { id: NodeId { level: 0, index }, hash: leaf };
        let mut nodes = vec![node];
        // Each trailing 1 of the old size is a subtree that now gets its right sibling.
        while (index >> node.id.level) & 1 == 1
            && let Some(left) = self.peaks.pop()
        {
            let id = NodeId { level: node.id.level + 1, index: node.id.index >> 1 };
            node = Node { id, hash: node_hash(&left, &node.hash) };
            nodes.push(node);
        }
        self.peaks.push(node.hash);
        self.size += 1;
        Appended { index, nodes }
    }

    /// The root of the tree; SHA-256 of nothing for an empty one.
    pub fn root(&self) -> Hash {
        self.peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test data of the reference implementation of RFC 6962.
    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn roots_are_those_of_the_reference_implementation() {
        let leaves: Vec<Hash> = LEAVES.iter().map(|data| leaf_hash(&hex::decode(data).unwrap())).collect();
        let mut log = MerkleLog::new();
        for (size, expected) in ROOTS.iter().enumerate() {
            assert_eq!(log.root().to_string(), *expected, "size {size}");
            assert_eq!(root_of(&leaves[..size]).to_string(), *expected, "size {size}, from scratch");
            if let Some(leaf) = leaves.get(size) {
                assert_eq!(log.append(*leaf).index, size as u64);
            }
        }
    }

    #[test]
    fn the_state_is_small_round_trips_and_is_checked() {
        let mut log = MerkleLog::new();
        let mut nodes = 0;
        for number in 0..1000_u32 {
            nodes += log.append(leaf_hash(&number.to_be_bytes())).nodes.len();
        }
        assert_eq!(log.peaks().len(), 6, "1000 has six bits");
        assert!(nodes < 2000);
        let text = serde_json::to_string(&log).unwrap();
        assert_eq!(serde_json::from_str::<MerkleLog>(&text).unwrap(), log);
        assert!(serde_json::from_str::<MerkleLog>(&text.replace("1000", "1001")).is_err());
        assert!(serde_json::from_str::<MerkleLog>(r#"{"size":1,"peaks":["xy"]}"#).is_err());
    }

    #[test]
    fn every_completed_node_is_the_root_of_its_leaves() {
        let leaves: Vec<Hash> = (0..100_u8).map(|number| leaf_hash(&[number])).collect();
        let mut log = MerkleLog::new();
        for leaf in &leaves {
            for Node { id, hash } in log.append(*leaf).nodes {
                let (from, to) = ((id.index << id.level) as usize, ((id.index + 1) << id.level) as usize);
                assert_eq!(hash, root_of(&leaves[from..to]), "{id:?}");
            }
        }
    }
}
