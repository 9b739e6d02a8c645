//! What a group of processes computes together.

use tch::{Device, Kind, Tensor};
use textbrewer::distributed::{ProcessGroup, Reduce};

use crate::common::ranks::in_processes;
use crate::common::tiny::first_line;

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(&tensor.to_kind(Kind::Double).view([-1])).unwrap()
}

#[test]
fn all_processes_get_what_all_have() {
    in_processes(
        "collectives::all_processes_get_what_all_have",
        3,
        |group, _| {
            let rank = group.rank() as i64;
            let own = Tensor::from_slice(&[rank, 10 * rank]);
            let reduced = |reduce| numbers(&group.all_reduce(&own, reduce).unwrap());
            assert_eq!(reduced(Reduce::Sum), [3.0, 30.0]);
            assert_eq!(reduced(Reduce::Min), [0.0, 0.0]);
            assert_eq!(reduced(Reduce::Max), [2.0, 20.0]);
            assert_eq!(numbers(&own), [rank as f64, 10.0 * rank as f64]);
            for kind in [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16] {
                let mean = group.all_reduce(&own.to_kind(kind), Reduce::Mean).unwrap();
                assert_eq!((mean.kind(), numbers(&mean)), (kind, vec![1.0, 10.0]));
            }
            let one = group.all_gather(&Tensor::from(rank)).unwrap();
            assert_eq!((one[2].size(), numbers(&one[2])), (vec![], vec![2.0]));
            let all = group.all_gather(&own).unwrap();
            let all: Vec<_> = all.iter().map(numbers).collect();
            assert_eq!(all, [[0.0, 0.0], [1.0, 10.0], [2.0, 20.0]]);
            // A variable, and one that is not contiguous.
            let variable = own.to_kind(Kind::Float).set_requires_grad(true);
            let sent = group.broadcast(&variable, 2).unwrap();
            assert_eq!(numbers(&sent), [2.0, 20.0]);
            let turned = Tensor::arange(6, (Kind::Int64, Device::Cpu))
                .view([2, 3])
                .tr()
                + rank;
            let sent = group.broadcast(&turned, 1).unwrap();
            assert_eq!(numbers(&sent), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
            let nothing = Tensor::ones([0, 3], (Kind::Float, Device::Cpu));
            let reduced = group.all_reduce(&nothing, Reduce::Sum).unwrap();
            assert_eq!(reduced.size(), [0, 3]);
            assert_eq!(group.all_gather(&nothing).unwrap()[2].size(), [0, 3]);
            let number = Tensor::from(rank);
            assert_eq!(group.all_gather(&number).unwrap()[2].int64_value(&[]), 2);
            group.barrier().unwrap();
        },
    );
}

#[test]
fn tensors_that_do_not_fit_are_an_error_in_all_processes() {
    let name = "collectives::tensors_that_do_not_fit_are_an_error_in_all_processes";
    in_processes(name, 2, |group, _| {
        let own = Tensor::ones([2 + group.rank() as i64], (Kind::Float, Device::Cpu));
        let said = first_line(group.all_reduce(&own, Reduce::Sum).map(drop));
        let (rank, other) = (group.rank(), 1 - group.rank());
        let (has, others) = (2 + rank, 2 + other);
        assert_eq!(
            said,
            format!(
                "process {rank} of 2, all_reduce: this process brings Float [{has}] on the CPU \
                 (Sum), process {other} Float [{others}] on the CPU (Sum)"
            )
        );
        // And nothing is lost by it.
        let said = match rank {
            0 => first_line(group.barrier()),
            _ => first_line(group.all_gather(&own).map(drop)),
        };
        let (here, there) = match rank {
            0 => ("barrier", "all_gather"),
            _ => ("all_gather", "barrier"),
        };
        assert!(
            said.starts_with(&format!(
                "process {rank} of 2, {here}: process {other} is at \"{there}\"; all processes have"
            )),
            "{said}"
        );
        group.barrier().unwrap();
    });
}

#[test]
fn a_process_alone_has_its_own() {
    let group = ProcessGroup::from_env().unwrap();
    let own = Tensor::from_slice(&[1.5f32, 2.5]);
    for reduce in [Reduce::Sum, Reduce::Mean, Reduce::Min, Reduce::Max] {
        assert_eq!(
            numbers(&group.all_reduce(&own, reduce).unwrap()),
            [1.5, 2.5]
        );
    }
    assert_eq!(numbers(&group.all_gather(&own).unwrap()[0]), [1.5, 2.5]);
    assert_eq!(numbers(&group.broadcast(&own, 0).unwrap()), [1.5, 2.5]);
    let said = first_line(group.broadcast(&own, 1).map(drop));
    assert_eq!(said, "broadcast: there is no process 1; they are 0 to 0");
    let integers = Tensor::from_slice(&[1i64]);
    let said = first_line(group.all_reduce(&integers, Reduce::Mean).map(drop));
    assert!(said.starts_with("all_reduce: a mean of integers"), "{said}");
    group.barrier().unwrap();
}
