//! Three ways to sort u64s: by radix, by stable merging of natural runs, and by heap when memory is short.

/// Least significant byte first; passes in which all keys share the byte are skipped.
pub fn radix_sort(keys: &mut Vec<u64>) {
    let mut other = vec![0; keys.len()];
    for shift in (0..64).step_by(8) {
        let counts = byte_counts(keys, shift);
        if counts.contains(&keys.len()) {
            continue;
        }
        let mut next = prefix_sums(&counts);
        for &key in keys.iter() {
            let slot = &mut next[byte(key, shift)];
            other[*slot] = key;
            *slot += 1;
        }
        std::mem::swap(keys, &mut other);
    }
}

/// Merges neighbouring runs until one is left: O(n log r) for r runs, so sorted input costs one pass.
pub fn merge_sort(keys: &mut Vec<u64>) {
    let mut ends = run_ends(keys);
    let mut other = Vec::with_capacity(keys.len());
    while ends.len() > 1 {
        let mut merged_ends = Vec::with_capacity(ends.len() / 2 + 1);
        let mut start = 0;
        for pair in ends.chunks(2) {
            let end = pair[pair.len() - 1];
            let (left, right) = keys[start..end].split_at(pair[0] - start);
            merge(left, right, &mut other);
            merged_ends.push(end);
            start = end;
        }
        std::mem::swap(keys, &mut other);
        other.clear();
        ends = merged_ends;
    }
}

/// In place, O(n log n) always, not stable.
pub fn heap_sort(keys: &mut [u64]) {
    for root in (0..keys.len() / 2).rev() {
        sift_down(keys, root);
    }
    for end in (1..keys.len()).rev() {
        keys.swap(0, end);
        sift_down(&mut keys[..end], 0);
    }
}

/// The `rank`-th smallest key, or `None` if there are not so many. O(n) on average; reorders the keys.
pub fn select(keys: &mut [u64], rank: usize) -> Option<u64> {
    let (mut low, mut high) = (0, keys.len());
    while rank < high {
        let pivot = median_of_three(keys[low], keys[low + (high - low) / 2], keys[high - 1]);
        let (less, equal) = partition(&mut keys[low..high], pivot);
        match rank - low {
            below if below < less => high = low + less,
            within if within < less + equal => return Some(pivot),
            _ => low += less + equal,
        }
    }
    None
}

fn byte(key: u64, shift: u32) -> usize {
    (key >> shift) as u8 as usize
}

fn byte_counts(keys: &[u64], shift: u32) -> [usize; 256] {
    let mut counts = [0; 256];
    for &key in keys {
        counts[byte(key, shift)] += 1;
    }
    counts
}

fn prefix_sums(counts: &[usize; 256]) -> [usize; 256] {
    let mut sum = 0;
    counts.map(|count| {
        sum += count;
        sum - count
    })
}

fn run_ends(keys: &[u64]) -> Vec<usize> {
    let breaks = keys.windows(2).enumerate().filter(|(_, pair)| pair[0] > pair[1]).map(|(at, _)| at + 1);
    breaks.chain([keys.len()]).collect()
}

fn merge(mut left: &[u64], mut right: &[u64], out: &mut Vec<u64>) {
    while let (Some((&l, more_left)), Some((&r, more_right))) = (left.split_first(), right.split_first()) {
        if r < l {
            out.push(r);
            right = more_right;
        } else {
            out.push(l);
            left = more_left;
        }
    }
    out.extend_from_slice(left);
    out.extend_from_slice(right);
}

fn sift_down(heap: &mut [u64], mut root: usize) {
    while let Some(&left) = heap.get(2 * root + 1) {
        let right_is_larger = heap.get(2 * root + 2).is_some_and(|&right| right > left);
        let child = 2 * root + 1 + usize::from(right_is_larger);
        if heap[root] >= heap[child] {
            return;
        }
        heap.swap(root, child);
        root = child;
    }
}

fn median_of_three(a: u64, b: u64, c: u64) -> u64 {
    a.min(b).max(a.max(b).min(c))
}

/// Smaller keys first, then those equal to the pivot; returns how many there are of each.
fn partition(keys: &mut [u64], pivot: u64) -> (usize, usize) {
    let (mut less, mut at, mut greater) = (0, 0, keys.len());
    while at < greater {
        if keys[at] < pivot {
            keys.swap(less, at);
            less += 1;
            at += 1;
        } else if keys[at] > pivot {
            greater -= 1;
            keys.swap(at, greater);
        } else {
            at += 1;
        }
    }
    (less, greater - less)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Vec<Vec<u64>> {
        let mixed = (0..1_000u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (i % 64)).collect();
        vec![vec![], vec![3], vec![5; 10], (0..100).collect(), (0..100).rev().collect(), mixed]
    }

    #[test]
    fn all_three_agree_with_the_standard_library() {
        for input in inputs() {
            let mut expected = input.clone();
            expected.sort();
            let (mut radix, mut merged, mut heap) = (input.clone(), input.clone(), input);
            radix_sort(&mut radix);
            merge_sort(&mut merged);
            heap_sort(&mut heap);
            assert_eq!((&radix, &merged, &heap), (&expected, &expected, &expected));
        }
    }

    #[test]
    fn selection_finds_every_rank() {
        for input in inputs() {
            let mut expected = input.clone();
            expected.sort();
            for rank in 0..=input.len() {
                assert_eq!(select(&mut input.clone(), rank), expected.get(rank).copied());
            }
        }
    }
}
