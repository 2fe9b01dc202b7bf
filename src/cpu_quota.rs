//! How much of the processor a container may use.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The quota of this process's control group, in cores; `None` where there is none.
///
/// A container that uses it up is stopped for the rest of the period, whatever the priority of what was to be done
/// (Linux, `sched-bwc`). [`std::thread::available_parallelism`] knows it, too, but only in whole cores.
pub fn cpu_quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    least_quota(Path::new("/sys/fs/cgroup"), &groups)
}

/// The least quota of the groups that `/proc/self/cgroup` names, and of those above them.
fn least_quota(root: &Path, groups: &str) -> Option<f64> {
    let quotas = groups.lines().filter_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let group = group.trim_start_matches('/');
        let (mount, read): (PathBuf, fn(&Path) -> Option<f64>) = match controllers {
            "" => (root.to_owned(), unified),
            _ if controllers.split(',').any(|name| name == "cpu") => (root.join("cpu"), version_1),
            _ => return None,
        };
        // Inside a container the path may be that of the host; the mount itself is its group then.
        let quotas = Path::new(group).ancestors().filter_map(|group| read(&mount.join(group)));
        quotas.min_by(f64::total_cmp)
    });
    quotas.min_by(f64::total_cmp)
}

/// `cpu.max` of version 2: quota and period in microseconds, or `max`.
fn unified(group: &Path) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota, period)
}

/// The same of version 1, where -1 means none.
fn version_1(group: &Path) -> Option<f64> {
    let read = |name| fs::read_to_string(group.join(name)).ok();
    ratio(read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?.trim())
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_quota_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("cpu.max", "max 100000\n");
        write("pod/cpu.max", "150000 100000\n");
        write("pod/one/cpu.max", "200000 100000\n");
        write("pod/half/cpu.max", "25000 50000\n");
        write("cpu/cpu.cfs_quota_us", "-1\n");
        write("cpu/cpu.cfs_period_us", "100000\n");
        write("cpu/docker/cpu.cfs_quota_us", "300000\n");
        write("cpu/docker/cpu.cfs_period_us", "100000\n");
        let rows = [
            ("0::/\n", None),
            ("0::/pod/one\n", Some(1.5)),
            ("0::/pod/half\n", Some(0.5)),
            ("0::/not/here\n", None),
            ("9:name=systemd:/pod\n4:memory:/pod\n", None),
            ("2:cpu,cpuacct:/docker\n", Some(3.0)),
            ("1:cpu:/docker\n0::/pod/half\n", Some(0.5)),
            ("2:cpuacct,cpu:/elsewhere\n", None),
            ("", None),
            ("garbage", None),
        ];
        for (groups, quota) in rows {
            assert_eq!(least_quota(root.path(), groups), quota, "{groups:?}");
        }
    }
}
