//! What a group promises, whoever comes, late or not at all.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use adaloss_core::{
    format::{Format, Narrowing},
    scale::Scale,
    statistics::Histogram,
};
use adaloss_hal::group::{Exchange, Group, GroupError, GroupErrorKind, merge_histogram};
use adaloss_threads::Member;

use super::{LONG, ranks};

#[test]
fn every_rank_has_the_same_result() {
    for size in [1, 2, 4, 16] {
        let results = ranks(size, LONG, |mut group| {
            let (rank, size) = (group.rank(), group.size());
            let mut said = Vec::new();
            for nth in 0..100 {
                let mut bytes = [rank as u8, nth, 255 - rank as u8];
                group.max_u8(&mut bytes).expect("all come");
                let mut greatest = [rank as u64 + u64::from(nth), u64::MAX - rank as u64];
                group.max_u64(&mut greatest).expect("all come");
                let mut sums = [rank as u64, 1, u64::MAX];
                group.sum_u64(&mut sums).expect("all come");
                let mut from = [rank as u8; 5];
                group.broadcast(nth as usize % size, &mut from).expect("all come");
                let last = size as u8 - 1;
                assert_eq!(bytes, [last, nth, 255]);
                assert_eq!(greatest, [u64::from(last) + u64::from(nth), u64::MAX]);
                let ranks = size as u64;
                assert_eq!(sums, [ranks * (ranks - 1) / 2, ranks, 0_u64.wrapping_sub(ranks)]);
                assert_eq!(from, [(nth as usize % size) as u8; 5]);
                let mut all = vec![0; 2 * size];
                group.all_gather(&[rank as u8, nth], &mut all).expect("all come");
                assert!(all.chunks_exact(2).zip(0..).all(|(part, rank)| part == [rank, nth]));
                // To rank t rank f brings 16 f + t.
                let own: Vec<u8> = (0..size as u8).map(|to| 16 * rank as u8 + to).collect();
                let mut brought = vec![0; size];
                group.all_to_all(&own, &mut brought).expect("all come");
                let expected =
                    (0..size as u8).map(|from| (16 * u32::from(from)) as u8 + rank as u8);
                assert!(brought.into_iter().eq(expected));
                said.push((bytes, greatest, sums, from));
            }
            group.max_u8(&mut []).expect("nothing is agreed on at once");
            group.all_gather(&[], &mut []).expect("nothing is brought at once");
            group.all_to_all(&[], &mut []).expect("nothing is brought at once");
            said
        });
        assert!(results.iter().all(|result| *result == results[0]));
    }
}

/// What the ranks are told when one of them does this instead of the second operation.
fn told(
    deadline: Duration,
    instead: impl Fn(Member) + Sync,
) -> Vec<(GroupErrorKind, Option<usize>)> {
    let began = Instant::now();
    let told = ranks(4, deadline, |mut group| {
        group.max_u8(&mut [1]).expect("all come");
        if group.rank() == 2 {
            instead(group);
            return None;
        }
        let error = group.max_u8(&mut [1; 9]).expect_err("one does not come");
        // It stays at that.
        assert_eq!(group.sum_u64(&mut [1]), Err(error));
        Some((error.kind(), GroupError::rank(&error)))
    });
    assert!(began.elapsed() < LONG, "they waited for {:?}", began.elapsed());
    told.into_iter().flatten().collect()
}

#[test]
fn who_leaves_ends_the_others_waits() {
    let said = told(2 * LONG, drop);
    assert_eq!(said, [(GroupErrorKind::Disconnected, Some(2)); 3]);
}

#[test]
fn who_panics_ends_the_others_waits() {
    let said = told(2 * LONG, |group| {
        let panics = catch_unwind(AssertUnwindSafe(|| {
            let _group = group;
            std::panic::resume_unwind(Box::new("a planted panic"));
        }));
        assert!(panics.is_err());
    });
    assert_eq!(said, [(GroupErrorKind::Disconnected, Some(2)); 3]);
}

#[test]
fn who_is_late_is_named_at_the_deadline() {
    let said = told(Duration::from_millis(300), |mut group| {
        thread::sleep(Duration::from_millis(900));
        let error = group.max_u8(&mut [1; 9]).expect_err("the others went");
        assert_eq!(error.kind(), GroupErrorKind::Timeout);
    });
    assert_eq!(said, [(GroupErrorKind::Timeout, Some(2)); 3]);
}

#[test]
fn another_operation_or_length_is_an_error_everywhere() {
    let others: [fn(&mut Member); 4] = [
        |group| group.max_u8(&mut [1; 8]).unwrap_or_default(),
        |group| group.sum_u64(&mut [1; 9]).unwrap_or_default(),
        |group| group.max_u64(&mut [1; 9]).unwrap_or_default(),
        |group| group.broadcast(0, &mut [1; 9]).unwrap_or_default(),
    ];
    for other in others {
        let said = told(LONG, |mut group| other(&mut group));
        assert_eq!(said.len(), 3);
        assert!(said.iter().all(|one| *one == said[0] && one.0 == GroupErrorKind::Mismatch));
    }
}

#[test]
fn a_broadcast_from_nobody_is_an_error() {
    let said = told(LONG, |mut group| {
        assert!(group.broadcast(4, &mut [1; 9]).is_err());
    });
    assert_eq!(said, [(GroupErrorKind::Other, Some(4)); 3]);
}

/// What was agreed on holds for a rank that comes to hear of it after another has left.
#[test]
fn who_leaves_after_the_last_operation_takes_nothing_back() {
    for _ in 0..200 {
        let results = ranks(3, LONG, |mut group| {
            let mut bytes = [group.rank() as u8];
            group.max_u8(&mut bytes).map(|()| bytes)
        });
        assert_eq!(results, [Ok([2]); 3]);
    }
}

/// The histogram of a tensor of which every rank has a part.
#[test]
fn histograms_add_up_exactly() {
    let value = |nth: usize| (nth as f32 - 50.0) * 1.0e-5;
    let narrowing = Narrowing::to(Format::E4M3);
    let mut whole = Histogram::new(narrowing);
    (0..160).for_each(|nth| whole.observe_one(value(nth), Scale::ONE));
    for size in [1, 2, 4, 16] {
        let merged = ranks(size, LONG, |mut group| {
            let mut part = Histogram::new(narrowing);
            let each = 160 / size;
            let first = group.rank() * each;
            (first..first + each).for_each(|nth| part.observe_one(value(nth), Scale::ONE));
            merge_histogram(&mut part, &mut group).expect("one narrowing");
            part
        });
        assert!(merged.iter().all(|merged| *merged == whole));
    }
    let mixed = ranks(3, LONG, |mut group| {
        let format = if group.rank() == 1 { Format::E5M2 } else { Format::E4M3 };
        merge_histogram(&mut Histogram::new(Narrowing::to(format)), &mut group).is_err()
    });
    assert_eq!(mixed, [true; 3]);
}
