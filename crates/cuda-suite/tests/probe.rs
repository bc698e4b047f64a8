//! What a program is told where CUDA is missing or broken. It never panics. Alone in its binary, since a driver
//! that has started is kept.

use cuda_standin::{Driver, Personality, Session};
use hapax::{CudaAbsent, CudaDevice};

#[test]
fn each_way_to_have_no_cuda_says_what_to_install() {
    if matches!(cuda_standin::driver(), Driver::Absent) {
        match CudaDevice::list() {
            Err(absent @ CudaAbsent::NoLibrary { .. }) => {
                let best = hapax::best_device();
                assert!(best.reason.contains(&absent.to_string()) && best.device.name() == "host memory");
                assert!(absent.to_string().contains("install NVIDIA's driver"), "{absent}");
            }
            Err(other) => panic!("{other}"),
            Ok(cards) => println!("skipped in part: this machine has {} cards", cards.len()),
        }
    }
    let session = Session::begin().expect("the stand-in was built with this test");
    session.set_personality(Personality::NoDevice);
    let none = CudaDevice::list().unwrap_err();
    assert!(matches!(none, CudaAbsent::NoDevice { .. }) && none.to_string().contains("nvidia-smi"), "{none:?}");
    session.set_personality(Personality::TooOld);
    let old = CudaDevice::open(0).unwrap_err();
    assert!(matches!(old, CudaAbsent::DriverTooOld { .. }) && old.to_string().contains("install one"), "{old:?}");
    session.set_personality(Personality::Gpu);
    let cards = CudaDevice::list().unwrap();
    assert_eq!(cards.len(), 1);
    let card = CudaDevice::by_uuid(&cards[0].uuid).unwrap();
    assert_eq!(card.info(), &cards[0]);
    for wrong in [CudaDevice::open(7), CudaDevice::by_uuid("GPU-nobody"), CudaDevice::by_uuid("GPU-")] {
        let wrong = wrong.unwrap_err();
        assert!(
            matches!(wrong, CudaAbsent::NoSuchDevice { .. }) && wrong.to_string().contains(&cards[0].uuid),
            "{wrong}"
        );
    }
    session.set("devices", 2);
    let both = CudaDevice::list().unwrap();
    let common = both[0].uuid.bytes().zip(both[1].uuid.bytes()).take_while(|(one, two)| one == two).count();
    if common > "GPU-".len() {
        let ambiguous = CudaDevice::by_uuid(&both[0].uuid[..common]).unwrap_err();
        assert!(both.iter().all(|card| ambiguous.to_string().contains(&card.uuid)), "{ambiguous}");
    }
    for card in &both {
        assert_eq!(CudaDevice::by_uuid(&card.uuid["GPU-".len()..]).unwrap().info(), card);
    }
    assert!(hapax::best_device().reason.contains(&cards[0].uuid));
}
