//! Where the optimizer's numbers lie changes no bit.

use crate::miniature::{Place, Training, curve, settings};
use model::device::Dtype;
use model::lora::{Linear, LoraSettings};
use train::{DecayOn, Placement, TrainSettings};

#[test]
fn on_the_device_and_on_the_host_it_computes_the_same_bits() {
    let lora = LoraSettings {
        rank: 2,
        alpha: 2.0,
        dropout: 0.1,
        targets: vec![Linear::Value, Linear::Gate],
    };
    for (dtype, lora, decay_on) in [
        (Dtype::F32, None, DecayOn::Matrices),
        (Dtype::F32, None, DecayOn::All),
        (Dtype::Bf16, None, DecayOn::Matrices),
        (Dtype::F32, Some(lora), DecayOn::Matrices),
    ] {
        let of = |optimizer| {
            let mut training = Training::new(TrainSettings {
                optimizer,
                lora: lora.clone(),
                decay_on,
                save_every_steps: 7,
                ..settings()
            });
            training.dtype = dtype;
            training
        };
        let (host, device) = (Place::new(), Place::new());
        let one = curve(&of(Placement::Host).finish(&host));
        let other = curve(&of(Placement::Device).finish(&device));
        assert_eq!(one, other, "{dtype} {lora:?}");
        assert!(host.checkpoint() == device.checkpoint(), "{dtype} {lora:?}");
        // States are the same too, so that a training can go on with the other placement.
        for name in host.states() {
            let file = format!("state/{name}/trainer.safetensors");
            let read = |place: &Place| std::fs::read(place.path(&file)).expect("a state");
            assert!(read(&host) == read(&device), "{name}");
        }
    }
}
