//! A save can die before any of its operations on the disk.

use super::*;

fn table() -> Table {
    let mut table = Table::default();
    table.push("matrix".to_owned(), Format::F32, &[2, 3]);
    table.push("large".to_owned(), Format::F32, &[300_000]);
    table.push("codes".to_owned(), Format::U8, &[3, 100_001]);
    table
}

fn values(step: usize) -> impl Fn(usize) -> Values<'static> {
    move |index| {
        let numbers = 0..[6, 300_000, 300_003][index];
        match index {
            2 => Values::U8(numbers.map(|n| (n * 7 + step) as u8).collect()),
            _ => Values::F32(
                numbers
                    .map(|n| (n * (index + 1) + step) as f32 / 3.0)
                    .collect(),
            ),
        }
    }
}

fn store(folder: &Path) -> Store {
    Store {
        folder: folder.to_owned(),
        key: "key".to_owned(),
    }
}

/// Saves `step`; dies before operation `dies_at` on the disk.
fn save(folder: &Path, step: usize, dies_at: usize) -> Result<PathBuf, StateError> {
    let mut left = dies_at;
    let mut before = || match left.checked_sub(1) {
        Some(rest) => {
            left = rest;
            Ok(())
        }
        None => Err(io::Error::other("killed")),
    };
    let standing = Standing {
        step,
        trained_tokens: 10 * step as u64,
        ..Standing::default()
    };
    store(folder).save(&standing, (&table(), &values(step)), 2, &mut before)
}

#[track_caller]
fn check_newest(folder: &Path, step: usize) {
    let found = store(folder)
        .newest(&|_| table())
        .expect("the folder can be listed");
    let (standing, mut stored) = found.state.expect("a whole state");
    assert_eq!(
        standing,
        Standing {
            step,
            trained_tokens: 10 * step as u64,
            ..Standing::default()
        }
    );
    // In any order, as often as one likes.
    for index in [2, 0, 1, 0] {
        let found = stored.read(index).expect("it is read");
        assert!(found == values(step)(index), "tensor {index}");
    }
}

#[test]
fn killed_before_any_operation_of_a_save() {
    let mut operations = 0;
    loop {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        for step in [1, 2, 3] {
            save(folder, step, usize::MAX).expect("it saves");
        }
        let saved = save(folder, 4, operations).is_ok();
        let found = store(folder).newest(&|_| table()).expect("listed");
        let (standing, _) = found.state.expect("there is always a whole state");
        assert!([3, 4].contains(&standing.step));
        check_newest(folder, standing.step);
        // The next save clears what the dead one has left.
        save(folder, 5, usize::MAX).expect("it saves");
        check_newest(folder, 5);
        let names = |path: PathBuf| path.file_name().map(|name| name.to_owned());
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        let left: Vec<_> = entries.filter_map(|entry| names(entry.path())).collect();
        assert_eq!(
            left.len(),
            2,
            "killed before operation {operations}: {left:?}"
        );
        if saved {
            break;
        }
        operations += 1;
    }
    assert!(operations > 12, "a save has {operations} operations");
}

#[test]
fn a_state_that_stands_in_the_way_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    save(folder, 3, usize::MAX).expect("it saves");
    fs::write(folder.join("step-00000003/trainer.safetensors"), "damaged").expect("a file");
    save(folder, 3, usize::MAX).expect("it saves");
    check_newest(folder, 3);
}

/// Saves `step`, and calls `disturb` before each operation on the disk.
fn save_disturbed(folder: &Path, step: usize, disturb: impl Fn()) -> Result<PathBuf, StateError> {
    let mut before = || {
        disturb();
        Ok(())
    };
    let standing = Standing {
        step,
        ..Standing::default()
    };
    store(folder).save(&standing, (&table(), &values(step)), 2, &mut before)
}

#[test]
fn what_a_failed_save_has_written_is_removed() {
    // Instead of a full disk: a folder has the name of the file that is to be written.
    for name in [TENSORS, MANIFEST] {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        save(folder, 3, usize::MAX).expect("it saves");
        let unfinished = folder.join("step-00000004.unfinished");
        let saved = save_disturbed(folder, 4, || {
            if unfinished.exists() {
                // Only the first time, and not if the file is there.
                let _ = fs::create_dir(unfinished.join(name));
            }
        });
        assert!(saved.is_err(), "{name}");
        assert!(!unfinished.exists(), "{name}");
        check_newest(folder, 3);
    }
}

#[test]
fn a_damaged_state_of_a_later_step_does_not_push_out_the_one_that_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let damage = |step: usize| {
        let tensors = folder.join(format!("step-{step:08}")).join(TENSORS);
        fs::write(tensors, "damaged").expect("a file");
    };
    for step in [2, 8, 9] {
        save(folder, step, usize::MAX).expect("it saves");
    }
    save(folder, 2, usize::MAX).expect("it saves");
    damage(8);
    damage(9);
    // Two are kept, and neither of the damaged ones is one of them.
    for step in [3, 4] {
        save(folder, step, usize::MAX).expect("it saves");
        check_newest(folder, step);
    }
    let states = store(folder).list().expect("listed").into_iter();
    let steps: Vec<usize> = states.map(|(moment, _)| moment.step).collect();
    assert_eq!(steps, [3, 4, 8, 9]);
}

#[test]
fn bytes_that_change_after_they_were_checked_are_not_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = save(folder.path(), 3, usize::MAX).expect("it saves");
    let found = store(folder.path()).newest(&|_| table()).expect("listed");
    let (_, mut stored) = found.state.expect("a whole state");
    let path = state.join(TENSORS);
    let mut bytes = fs::read(&path).expect("a file");
    *bytes.last_mut().expect("bytes") ^= 1;
    fs::write(&path, bytes).expect("a file");
    assert!(stored.read(1).is_ok());
    let error = stored.read(2).expect_err("its last byte is another one");
    assert!(matches!(error, StateError::Unsteady { .. }), "{error}");
}

#[test]
fn the_file_is_a_safetensors_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = save(folder.path(), 7, usize::MAX).expect("it saves");
    let bytes = fs::read(state.join(TENSORS)).expect("a file");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("it is valid");
    let matrix = tensors.tensor("matrix").expect("it is there");
    assert_eq!(
        (matrix.dtype(), matrix.shape()),
        (safetensors::Dtype::F32, [2, 3].as_slice())
    );
    let first = values(7)(0).into_f32();
    let first: Vec<u8> = first.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(matrix.data(), first);
    let codes = tensors.tensor("codes").expect("it is there");
    assert_eq!(
        (codes.dtype(), codes.shape()),
        (safetensors::Dtype::U8, [3, 100_001].as_slice())
    );
    assert_eq!(codes.data(), values(7)(2).into_codes());
}

/// A standing with a value in every place, and numbers that are hard to write down.
fn full() -> Standing {
    let within = Within {
        micro_batches: 3,
        loss: 0.1 + 0.2,
        reached: vec![true, false],
    };
    Standing {
        step: 40,
        trained_tokens: u64::MAX - 1,
        skipped: 7,
        roll_backs: 2,
        anchor: 32,
        next_anchor: Some(40),
        recent: vec![1.0 / 3.0, 5e-324, f64::MAX, -0.0, 4.0, 1e16, 1e-7],
        looked: Some(39),
        best: Some(Best {
            step: 36,
            loss: 1.7 / 1.3,
        }),
        looks_since_best: 1,
        within: Some(within),
    }
}

#[test]
fn no_bit_of_a_manifest_changes_what_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(folder.path());
    let mut small = Table::default();
    small.push("matrix".to_owned(), Format::F32, &[2]);
    let values = |_| Values::F32(vec![1.0, 2.0].into());
    let save = store.save(&full(), (&small, &values), 2, &mut || Ok(()));
    let path = save.expect("it saves").join(MANIFEST);
    let newest = || {
        let found = store.newest(&|_| small.clone()).expect("listed");
        found.state.map(|(standing, _)| standing)
    };
    // As text, which tells 0 from -0.
    let text = |standing: &Standing| serde_json::to_string(standing).expect("plain data");
    let whole = fs::read(&path).expect("a manifest");
    assert_eq!(newest().as_ref().map(text), Some(text(&full())));
    for (at, bit) in (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << bit;
        fs::write(&path, &damaged).expect("written");
        // The same number in other digits is no damage: 4e-324 is 5e-324.
        let same = newest().is_none_or(|found| text(&found) == text(&full()));
        let damaged = String::from_utf8_lossy(&damaged);
        assert!(same, "bit {bit} of byte {at}: {damaged}");
    }
}

#[test]
fn the_anchor_the_next_one_and_the_best_are_kept_however_old() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    for step in 1..=6 {
        let standing = Standing {
            step,
            anchor: 2,
            next_anchor: (step >= 4).then_some(4),
            best: (step >= 3).then_some(Best { step: 3, loss: 0.1 }),
            recent: vec![1.0 / 3.0, f64::MIN_POSITIVE],
            ..Standing::default()
        };
        let save = store(folder).save(&standing, (&table(), &values(step)), 1, &mut || Ok(()));
        save.expect("it saves");
        let (found, _) = store(folder).at(step, &|_| table()).expect("it is there");
        assert_eq!(found, standing);
    }
    let steps = store(folder).list().expect("listed");
    let steps: Vec<usize> = steps.into_iter().map(|(moment, _)| moment.step).collect();
    assert_eq!(steps, [2, 3, 4, 6]);
}
