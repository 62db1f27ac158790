//! Hashes of runs of words and of tokens: the same on every machine and in every release.

/// A hash of `value` in which all bits depend on all bits (the finaliser of SplitMix64).
pub fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A hash of a text (FNV-1a, mixed).
pub fn of_text(text: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mixed(text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// Hashes of all runs of `n` words, in order; of a shorter text the hash of all of it.
pub fn runs(words: &[String], n: usize) -> Vec<u64> {
    let hashes: Vec<u64> = words.iter().map(|word| of_text(word)).collect();
    let all = hashes.len().max(1);
    let join = |run: &[u64]| {
        run.iter()
            .fold(0, |hash: u64, word| mixed(hash.rotate_left(5) ^ word))
    };
    hashes.windows(n.min(all)).map(join).collect()
}

/// As [`runs`], each once, ascending: a set that can be compared.
pub fn set(words: &[String], n: usize) -> Vec<u64> {
    let mut runs = runs(words, n);
    runs.sort_unstable();
    runs.dedup();
    runs
}

/// What two sets share, as a share of what both hold together (Jaccard), 0 to 1.
pub fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut at, mut shared) = (0, 0usize);
    for run in a {
        while b.get(at).is_some_and(|other| other < run) {
            at += 1;
        }
        shared += usize::from(b.get(at) == Some(run));
    }
    let all = a.len() + b.len() - shared;
    shared as f64 / all.max(1) as f64
}

/// Hashes of all runs of `n` ids, in order, each in constant time; none of a shorter text.
pub fn rolling(ids: &[u32], n: usize) -> impl Iterator<Item = u64> + '_ {
    const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
    let first = BASE.wrapping_pow(n as u32);
    let mut hash = 0u64;
    ids.iter().enumerate().filter_map(move |(at, &id)| {
        hash = hash
            .wrapping_mul(BASE)
            .wrapping_add(mixed(u64::from(id) + 1));
        if at >= n {
            let gone = mixed(u64::from(ids[at - n]) + 1);
            hash = hash.wrapping_sub(gone.wrapping_mul(first));
        }
        (at + 1 >= n).then_some(hash)
    })
}

/// Twice what two ascending lists have in common, each entry as often as both hold it, as a share of
/// both lists (Dice), 0 to 1.
pub fn in_common(a: &[u64], b: &[u64]) -> f64 {
    let (mut at, mut shared) = (0, 0usize);
    for one in a {
        while b.get(at).is_some_and(|other| other < one) {
            at += 1;
        }
        if b.get(at) == Some(one) {
            shared += 1;
            at += 1;
        }
    }
    2.0 * shared as f64 / (a.len() + b.len()).max(1) as f64
}
