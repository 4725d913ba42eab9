use adaloss_datasets::{Dataset, cifar::Cifar, generate::Format};

use crate::{assert_whole, generated};

#[test]
fn what_is_written_is_read() {
    let folder = generated(Format::Cifar10);
    let cifar = Cifar::open(folder.path()).unwrap();
    // Nine in each of six files.
    assert_eq!((cifar.train_samples(), cifar.test_samples()), (45, 9));
    assert_whole(&cifar);
}
