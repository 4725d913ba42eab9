//! From the maps of a network's heads to the boxes of each sample, and back.

/// Returns what several maps say of the boxes, sample by sample, where each map has all samples one after the other.
///
/// Two maps of two samples, `a0 a1` and `b0 b1`, become `a0 b0 a1 b1`.
///
/// # Panics
///
/// If a map has not as many elements of each sample.
pub fn by_sample(maps: &[Vec<f32>], samples: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(maps.iter().map(Vec::len).sum());
    for sample in 0..samples {
        for map in maps {
            assert!(map.len().is_multiple_of(samples), "as many elements of each sample");
            let length = map.len() / samples;
            all.extend_from_slice(&map[sample * length..(sample + 1) * length]);
        }
    }
    all
}

/// Undoes [`by_sample`]; `lengths` are those of the maps.
///
/// # Panics
///
/// If the lengths do not add up to all elements.
pub fn by_map(all: &[f32], lengths: &[usize], samples: usize) -> Vec<Vec<f32>> {
    assert_eq!(lengths.iter().sum::<usize>(), all.len(), "all elements of all maps");
    let mut maps: Vec<_> = lengths.iter().map(|&length| Vec::with_capacity(length)).collect();
    let mut rest = all;
    for _ in 0..samples {
        for (map, length) in maps.iter_mut().zip(lengths) {
            let (part, behind) = rest.split_at(length / samples);
            map.extend_from_slice(part);
            rest = behind;
        }
    }
    maps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_become_samples_and_maps_again() {
        let maps = [vec![0.0, 1.0, 2.0, 3.0], vec![10.0, 11.0]];
        let all = by_sample(&maps, 2);
        assert_eq!(all, [0.0, 1.0, 10.0, 2.0, 3.0, 11.0]);
        assert_eq!(by_map(&all, &[4, 2], 2), maps);
        assert!(by_sample(&[], 2).is_empty());
    }
}
