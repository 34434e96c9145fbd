use fishy_core::{Error, Result};

use crate::merkle::{Hash, NodeId, node_hash, split_of};

/// Which stored nodes a proof needs, before any of them is read: for each hash of the proof, the complete subtrees it
/// is folded from. Read the [`nodes`](Self::nodes) in one query, then [`resolve`](Self::resolve).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofPlan {
    steps: Vec<Vec<NodeId>>,
}

impl ProofPlan {
    /// Every node that is needed, once: O(log n), since only one hash of a proof can be over an incomplete subtree.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.steps.iter().flatten().copied()
    }

    /// The proof, given the hash of each node.
    pub fn resolve(&self, mut hash_of: impl FnMut(NodeId) -> Result<Hash>) -> Result<Vec<Hash>> {
        let fold = |step: &Vec<NodeId>| {
            let mut peaks = step.iter().rev();
            let last = peaks.next().ok_or_else(|| Error::internal("a proof has an empty step"))?;
            let mut hash = hash_of(*last)?;
            for peak in peaks {
                hash = node_hash(&hash_of(*peak)?, &hash);
            }
            Ok(hash)
        };
        self.steps.iter().map(fold).collect()
    }

    fn resolve_from_leaves(&self, leaves: &[Hash]) -> Result<Vec<Hash>> {
        self.resolve(|id| {
            let (from, to) = ((id.index << id.level) as usize, ((id.index + 1) << id.level) as usize);
            Ok(crate::merkle::root_of(&leaves[from..to]))
        })
    }
}

/// The complete subtrees that the leaves `from..to` fall into, from the left. `from` is the left edge of a subtree of
/// the whole tree, so the range folds like a tree of its own.
fn peaks_of(from: u64, to: u64) -> Vec<NodeId> {
    let mut peaks = Vec::new();
    let mut at = from;
    let mut rest = to - from;
    while rest > 0 {
        let level = rest.ilog2();
        peaks.push(NodeId { level, index: at >> level });
        at += 1 << level;
        rest -= 1 << level;
    }
    peaks
}

/// What proves that leaf `index` is in the tree of `size` leaves (RFC 6962, 2.1.1).
pub fn inclusion_plan(index: u64, size: u64) -> Result<ProofPlan> {
    if index >= size {
        return Err(Error::invalid(format!("leaf {index} is not in a tree of {size} leaves")));
    }
    let (mut from, mut to) = (0, size);
    let mut steps = Vec::new();
    while to - from > 1 {
        let middle = from + split_of(to - from);
        if index < middle {
            steps.push(peaks_of(middle, to));
            to = middle;
        } else {
            steps.push(peaks_of(from, middle));
            from = middle;
        }
    }
    steps.reverse();
    Ok(ProofPlan { steps })
}

/// What proves that the tree of `size` leaves begins with the tree of `old_size` leaves (RFC 6962, 2.1.2). Empty where
/// that needs no proof: `old_size` 0, or both sizes equal.
pub fn consistency_plan(old_size: u64, size: u64) -> Result<ProofPlan> {
    if old_size > size {
        return Err(Error::invalid(format!("a tree of {size} leaves cannot begin with one of {old_size}")));
    }
    let mut steps = Vec::new();
    if old_size == 0 || old_size == size {
        return Ok(ProofPlan { steps });
    }
    let (mut from, mut to) = (0, size);
    // While the right edge of the old tree is inside, the verifier knows less than the subtree.
    let mut is_old_root = true;
    while old_size != to {
        let middle = from + split_of(to - from);
        if old_size <= middle {
            steps.push(peaks_of(middle, to));
            to = middle;
        } else {
            steps.push(peaks_of(from, middle));
            from = middle;
            is_old_root = false;
        }
    }
    if !is_old_root {
        steps.push(peaks_of(from, to));
    }
    steps.reverse();
    Ok(ProofPlan { steps })
}

/// The inclusion proof of leaf `index` in the tree of these leaves.
pub fn inclusion_proof(leaves: &[Hash], index: u64) -> Result<Vec<Hash>> {
    inclusion_plan(index, leaves.len() as u64)?.resolve_from_leaves(leaves)
}

/// The consistency proof from the first `old_size` of these leaves to all of them.
pub fn consistency_proof(leaves: &[Hash], old_size: u64) -> Result<Vec<Hash>> {
    consistency_plan(old_size, leaves.len() as u64)?.resolve_from_leaves(leaves)
}

/// Whether `proof` shows that `leaf` is at `index` in the tree of `size` leaves with this root (RFC 9162, 2.1.3.2).
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree of `size` leaves with `root` begins with the tree of `old_size` leaves with
/// `old_root` (RFC 9162, 2.1.4.2).
pub fn verify_consistency(old_size: u64, old_root: &Hash, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    if old_size == 0 || old_size >= size {
        let is_trivial = if old_size == 0 {
            *old_root == crate::merkle::MerkleLog::new().root()
        } else {
            old_size == size && old_root == root
        };
        return is_trivial && proof.is_empty();
    }
    // A complete old tree is itself the first hash, which the proof leaves out.
    let mut hashes = proof.iter();
    let first = if old_size.is_power_of_two() { Some(old_root) } else { hashes.next() };
    let Some(first) = first else { return false };
    let (mut node, mut last) = (old_size - 1, size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (*first, *first);
    for hash in hashes {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old = node_hash(hash, &old);
            new = node_hash(hash, &new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old == *old_root && new == *root
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::merkle::{MerkleLog, leaf_hash, root_of};

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect()
    }

    /// PATH(m, D[n]) of RFC 6962, word by word.
    fn naive_inclusion(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() <= 1 {
            return Vec::new();
        }
        let split = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(split);
        let (mut path, sibling) = if index < split {
            (naive_inclusion(index, left), root_of(right))
        } else {
            (naive_inclusion(index - split, right), root_of(left))
        };
        path.push(sibling);
        path
    }

    /// SUBPROOF(m, D[n], b) of RFC 6962, word by word.
    fn naive_consistency(old_size: usize, leaves: &[Hash], is_old_root: bool) -> Vec<Hash> {
        if old_size == leaves.len() {
            return if is_old_root { Vec::new() } else { vec![root_of(leaves)] };
        }
        let split = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(split);
        let (mut proof, sibling) = if old_size <= split {
            (naive_consistency(old_size, left, is_old_root), root_of(right))
        } else {
            (naive_consistency(old_size - split, right, false), root_of(left))
        };
        proof.push(sibling);
        proof
    }

    #[test]
    fn every_proof_of_every_small_tree_holds_and_is_the_naive_one() {
        for size in 1..=40_u64 {
            let leaves = leaves(size);
            let root = root_of(&leaves);
            for index in 0..size {
                let proof = inclusion_proof(&leaves, index).unwrap();
                assert_eq!(proof, naive_inclusion(index as usize, &leaves));
                assert!(verify_inclusion(&leaves[index as usize], index, size, &proof, &root));
            }
            for old_size in 1..=size {
                let proof = consistency_proof(&leaves, old_size).unwrap();
                assert_eq!(proof, naive_consistency(old_size as usize, &leaves, true), "{old_size} of {size}");
                assert!(verify_consistency(old_size, &root_of(&leaves[..old_size as usize]), size, &root, &proof));
            }
            assert!(verify_consistency(0, &MerkleLog::new().root(), size, &root, &[]));
        }
    }

    #[test]
    fn what_is_out_of_the_tree_is_refused() {
        assert!(inclusion_plan(3, 3).is_err());
        assert!(inclusion_plan(0, 0).is_err());
        assert!(consistency_plan(4, 3).is_err());
        let three = leaves(3);
        let root = root_of(&three);
        assert!(!verify_inclusion(&three[0], 3, 3, &[], &root));
        assert!(!verify_consistency(4, &root, 3, &root, &[]));
        assert!(!verify_consistency(3, &three[0], 3, &root, &[]));
        assert!(verify_consistency(3, &root, 3, &root, &[]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn stored_nodes_answer_every_proof(size in 1_u64..600, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
            let leaves = leaves(size);
            let mut log = MerkleLog::new();
            let mut stored = HashMap::new();
            for leaf in &leaves {
                stored.extend(log.append(*leaf).nodes.into_iter().map(|node| (node.id, node.hash)));
            }
            let root = log.root();
            prop_assert_eq!(root, root_of(&leaves));
            let look_up = |id| stored.get(&id).copied().ok_or_else(|| Error::internal(format!("{id:?} is not stored")));

            let index = a.index(size as usize) as u64;
            let plan = inclusion_plan(index, size).unwrap();
            let proof = plan.resolve(look_up).unwrap();
            prop_assert_eq!(&proof, &naive_inclusion(index as usize, &leaves));
            prop_assert!(plan.nodes().count() <= 64);
            prop_assert!(verify_inclusion(&leaves[index as usize], index, size, &proof, &root));

            let old_size = b.index(size as usize) as u64 + 1;
            let old_root = root_of(&leaves[..old_size as usize]);
            let proof = consistency_plan(old_size, size).unwrap().resolve(look_up).unwrap();
            prop_assert!(verify_consistency(old_size, &old_root, size, &root, &proof));
        }

        #[test]
        fn a_proof_of_anything_else_fails(size in 2_u64..200, at in any::<prop::sample::Index>(), flip in 0_usize..256, which in any::<prop::sample::Index>()) {
            let leaves = leaves(size);
            let root = root_of(&leaves);
            let index = at.index(size as usize) as u64;
            let leaf = leaves[index as usize];
            let proof = inclusion_proof(&leaves, index).unwrap();
            let wrong = |hash: &Hash| { let mut hash = *hash; hash.0[flip / 8] ^= 1 << (flip % 8); hash };

            prop_assert!(!verify_inclusion(&wrong(&leaf), index, size, &proof, &root));
            prop_assert!(!verify_inclusion(&leaf, index, size, &proof, &wrong(&root)));
            prop_assert!(!verify_inclusion(&leaf, (index + 1) % size, size, &proof, &root));
            let mut bent = proof.clone();
            let place = which.index(bent.len());
            bent[place] = wrong(&bent[place]);
            prop_assert!(!verify_inclusion(&leaf, index, size, &bent, &root));
            prop_assert!(!verify_inclusion(&leaf, index, size, &proof[1..], &root));
            let longer: Vec<Hash> = proof.iter().copied().chain([root]).collect();
            prop_assert!(!verify_inclusion(&leaf, index, size, &longer, &root));

            let old_size = index + 1;
            let old_root = root_of(&leaves[..old_size as usize]);
            let proof = consistency_proof(&leaves, old_size).unwrap();
            prop_assert!(!verify_consistency(old_size, &wrong(&old_root), size, &root, &proof));
            prop_assert!(!verify_consistency(old_size, &old_root, size, &wrong(&root), &proof));
            if !proof.is_empty() {
                let mut bent = proof.clone();
                let place = which.index(bent.len());
                bent[place] = wrong(&bent[place]);
                prop_assert!(!verify_consistency(old_size, &old_root, size, &root, &bent));
                prop_assert!(!verify_consistency(old_size, &old_root, size, &root, &proof[1..]));
            }
        }
    }
}
