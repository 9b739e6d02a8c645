//! A group on the device of the tests: on a CUDA device NCCL, and Gloo beside it. One process is
//! enough for that.

use std::path::Path;
use std::time::Duration;

use tch::{Device, Kind, Tensor};
use textbrewer::distributed::{ProcessGroup, Reduce, Rendezvous};
use textbrewer::{AdamW, DistillationConfig, Distiller, MemorySink};

use crate::common::device::{device, keeps_bits};
use crate::common::elements;
use crate::common::ranks::{child_folder, free_port, outputs, said, start, variables};
use crate::common::tiny::{Net, config, difference, fill_projections, general, loader, numbers};

/// Does something in a process of its own, which is a group: a fault of NCCL ends a process.
fn in_a_group_of_one(test: &str, work: impl FnOnce(&ProcessGroup, &Path)) {
    let Some(folder) = child_folder() else {
        let folder = tempfile::tempdir().unwrap();
        let child = start(test, folder.path(), &variables(0, 1, free_port()));
        let outputs = outputs(vec![child]);
        let said = said(&outputs[0]);
        assert!(
            outputs[0].status.success() && said.contains("1 passed"),
            "{said}"
        );
        return;
    };
    let rendezvous = Rendezvous::from_env().unwrap().device(device());
    let rendezvous = rendezvous.timeout(Duration::from_secs(60));
    assert!(!rendezvous.is_alone());
    work(&ProcessGroup::new(&rendezvous).unwrap(), &folder);
}

#[test]
fn tensors_of_the_device_and_of_the_cpu() {
    let test = "device::tensors_of_the_device_and_of_the_cpu";
    in_a_group_of_one(test, |group, _| {
        assert_eq!(group.device(), device());
        for place in [device(), Device::Cpu] {
            for kind in [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Int64] {
                let own = Tensor::arange(6, (Kind::Int64, place)).view([2, 3]);
                let own = own.to_kind(kind);
                let same = |tensor: &Tensor| {
                    assert_eq!((tensor.device(), tensor.kind()), (place, kind));
                    assert_eq!(elements(tensor), elements(&own), "{kind:?} on {place:?}");
                };
                same(&group.all_reduce(&own, Reduce::Sum).unwrap());
                same(&group.all_reduce(&own, Reduce::Max).unwrap());
                if kind != Kind::Int64 {
                    same(&group.all_reduce(&own, Reduce::Mean).unwrap());
                }
                same(&group.broadcast(&own, 0).unwrap());
                let all = group.all_gather(&own).unwrap();
                assert_eq!(all.len(), 1);
                same(&all[0]);
            }
        }
        group.barrier().unwrap();
    });
}

/// The student's weights and the losses of a training.
fn train(folder: &Path, group: Option<&ProcessGroup>) -> (Vec<f64>, Vec<f64>) {
    let text = r#"{"temperature": 4, "intermediate_matches": [
        {"layer_T": 1, "layer_S": 0, "feature": "hidden", "loss": "hidden_mse", "weight": 1,
         "proj": ["linear", 4, 6]}]}"#;
    let learn = DistillationConfig::from_json_str(text).unwrap();
    let (teacher, student) = (Net::new(3, 6, 0.5), Net::new(2, 4, 0.25));
    let config = config(folder).gradient_accumulation_steps(2);
    let mut distiller = general(&teacher, &student, config, learn).unwrap();
    fill_projections(&distiller);
    let losses = MemorySink::new();
    let mut loader = loader(8);
    let mut run = distiller
        .train(&mut loader)
        .epochs(2)
        .optimizer(AdamW::new(0.01))
        .max_grad_norm(0.5)
        .log_sink(losses.clone());
    if let Some(group) = group {
        run = run.process_group(group);
    }
    run.run().unwrap();
    let losses = losses.curve("scalar/total_loss").into_iter();
    let losses = losses.map(|(_, loss)| loss).collect();
    (numbers(&student.variables), losses)
}

#[test]
fn a_run_of_one_process_is_the_run_without_a_group() {
    let test = "device::a_run_of_one_process_is_the_run_without_a_group";
    in_a_group_of_one(test, |group, folder| {
        let (weights, losses) = train(&folder.join("alone"), None);
        let (of_group, losses_of_group) = train(&folder.join("group"), Some(group));
        assert_eq!(losses.len(), 16);
        if keeps_bits() {
            assert_eq!((of_group, losses_of_group), (weights, losses));
            return;
        }
        assert!(difference(&of_group, &weights) < 1e-3);
        assert!(difference(&losses_of_group, &losses) < 1e-4);
    });
}
