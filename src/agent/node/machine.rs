//! The machine itself: what it is, and what is used of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::Mutex,
};

use jiff::Timestamp;
use procfs::{Current, CurrentSI, KernelStats, LoadAverage, Meminfo};
use sysinfo::{DiskRefreshKind, Disks};

use super::{NodeFacts, node_name, ports};
use crate::{
    api::{Filesystem, Host, HostMemory, Interface, Load, NodeInfo, Protocol, Time, Usage},
    keeper,
};

/// As many Instances as an App may have.
const MOST_PODS: &str = "10000";

/// What is used of a machine now.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// By everybody; cores averaged since the measurement before.
    pub usage: Usage,
    /// Everything that has no place in Kubernetes.
    pub host: Host,
    /// The disk of the data directory.
    pub disk: Disk,
    /// Processes and threads, and how many there may be.
    pub pids: (u64, u64),
}

/// Room on a disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk {
    /// All of it.
    pub bytes: u64,
    /// What others than root may still use.
    pub bytes_available: u64,
    /// Files and directories that it can hold.
    pub files: u64,
    /// How many more.
    pub files_available: u64,
}

/// Something that can be measured. May take its time.
pub trait Machine: Send + Sync {
    /// What is used now. What cannot be found out is zero.
    fn measure(&self) -> Measured;

    /// In words, whoever listens on a port; `None` if nobody does.
    fn holder(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// The machine that this process runs on.
#[derive(Debug)]
pub struct ThisMachine {
    data_dir: PathBuf,
    /// Busy and all ticks of the processors, at the measurement before.
    ticks: Mutex<Option<(u64, u64)>>,
}

impl ThisMachine {
    /// With the data directory, whose disk is the one that matters.
    pub fn new(data_dir: PathBuf) -> Self {
        Self { data_dir, ticks: Mutex::new(ticks()) }
    }

    fn cores(&self, processors: f64) -> f64 {
        let mut before = self.ticks.lock().expect("no holder panics");
        let now = ticks();
        let cores = match (*before, now) {
            (Some(before), Some(now)) if now.1 > before.1 => {
                share(now.0.saturating_sub(before.0), now.1 - before.1) * processors
            }
            _ => 0.0,
        };
        *before = now;
        cores
    }
}

#[allow(clippy::cast_precision_loss, reason = "ticks of a life of centuries fit")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// Ticks that the processors were busy, and all ticks there were.
fn ticks() -> Option<(u64, u64)> {
    let cpu = KernelStats::current().ok()?.total;
    let idle = cpu.idle + cpu.iowait.unwrap_or(0);
    let busy =
        cpu.user + cpu.nice + cpu.system + cpu.irq.unwrap_or(0) + cpu.softirq.unwrap_or(0) + cpu.steal.unwrap_or(0);
    Some((busy, busy + idle))
}

impl Machine for ThisMachine {
    fn measure(&self) -> Measured {
        let memory = memory();
        let load = LoadAverage::current().ok();
        let (cpu_sockets, cpu_cores, cpu_processors) = processors();
        let limit = fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|text| text.trim().parse().ok());
        let boot_time = procfs::boot_time_secs().ok().and_then(|at| Timestamp::from_second(at.try_into().ok()?).ok());
        let usage = Usage {
            cpu_cores: self.cores(cpu_processors.into()),
            memory_bytes: memory.total_bytes.saturating_sub(memory.available_bytes),
            ..Usage::default()
        };
        let host = Host {
            boot_time: boot_time.map(Time),
            cgroup_version: keeper::cgroup_version().to_owned(),
            cpu_sockets,
            cpu_cores,
            cpu_processors,
            load: load.as_ref().map(averages).unwrap_or_default(),
            memory,
            filesystems: filesystems(),
            interfaces: interfaces(),
        };
        Measured { usage, host, disk: self.disk(), pids: (load.map_or(0, |load| load.max.into()), limit.unwrap_or(0)) }
    }

    fn holder(&self, port: u16, protocol: Protocol) -> Option<String> {
        ports::holder(port, protocol)
    }
}

impl ThisMachine {
    fn disk(&self) -> Disk {
        let Ok(stat) = nix::sys::statvfs::statvfs(&self.data_dir) else { return Disk::default() };
        let unit = stat.fragment_size();
        Disk {
            bytes: stat.blocks() * unit,
            bytes_available: stat.blocks_available() * unit,
            files: stat.files(),
            files_available: stat.files_available(),
        }
    }
}

/// Of the machine, or of the container that this is.
fn memory() -> HostMemory {
    let Ok(info) = Meminfo::current() else { return HostMemory::default() };
    let available = info.mem_available.unwrap_or(info.mem_free);
    let (total_bytes, available_bytes) = match keeper::own_memory() {
        Some((limit, used)) if limit < info.mem_total => (limit, available.min(limit.saturating_sub(used))),
        _ => (info.mem_total, available),
    };
    let (swap_total_bytes, swap_free_bytes) = (info.swap_total, info.swap_free);
    HostMemory { total_bytes, available_bytes, swap_total_bytes, swap_free_bytes }
}

fn averages(load: &LoadAverage) -> Load {
    // By way of text, so that 0.1 stays 0.1.
    let wide = |narrow: f32| narrow.to_string().parse().unwrap_or(0.0);
    Load { one_minute: wide(load.one), five_minutes: wide(load.five), fifteen_minutes: wide(load.fifteen) }
}

/// Sockets, cores and processors.
fn processors() -> (u32, u32, u32) {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |block: &str, name: &str| {
        let line = block.lines().find(|line| line.starts_with(name))?;
        line.split_once(':')?.1.trim().parse::<u32>().ok()
    };
    let blocks: Vec<&str> = text.split("\n\n").filter(|block| block.contains("processor")).collect();
    let count = |set: BTreeSet<(u32, u32)>| u32::try_from(set.len()).unwrap_or(0);
    let sockets = blocks.iter().filter_map(|block| Some((field(block, "physical id")?, 0))).collect();
    let cores = blocks.iter().filter_map(|block| Some((field(block, "physical id")?, field(block, "core id")?)));
    let processors = u32::try_from(blocks.len()).unwrap_or(0);
    let known = |count: u32, otherwise: u32| if count == 0 { otherwise } else { count };
    (known(count(sockets), 1), known(count(cores.collect()), processors), processors)
}

/// Each disk once, where it was mounted first.
fn filesystems() -> Vec<Filesystem> {
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage());
    let Ok(disks) = disks else { return Vec::new() };
    let mut all: Vec<Filesystem> = disks
        .iter()
        .map(|disk| Filesystem {
            device: disk.name().to_string_lossy().into_owned(),
            mount_point: disk.mount_point().display().to_string(),
            size_bytes: disk.total_space(),
            available_bytes: disk.available_space(),
        })
        .collect();
    all.sort_by(|a, b| (a.mount_point.len(), &a.mount_point).cmp(&(b.mount_point.len(), &b.mount_point)));
    let mut seen = BTreeSet::new();
    all.retain(|filesystem| filesystem.size_bytes > 0 && seen.insert(filesystem.device.clone()));
    all.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
    all
}

fn interfaces() -> Vec<Interface> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for found in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let addresses = all.entry(found.interface_name).or_default();
        let address = found.address.as_ref();
        let v4 = address.and_then(|a| a.as_sockaddr_in()).map(|a| a.ip().to_string());
        let v6 = address.and_then(|a| a.as_sockaddr_in6()).map(|a| a.ip().to_string());
        addresses.extend(v4.or(v6));
    }
    all.into_iter().map(|(name, addresses)| Interface { name, addresses }).collect()
}

impl NodeFacts {
    /// What this machine says of itself. `boot_id` tells one boot from another.
    pub fn of_this_machine(boot_id: String) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let uname = nix::sys::utsname::uname().ok();
        let text = |pick: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            uname.as_ref().map(|u| pick(u).to_string_lossy().into_owned()).unwrap_or_default()
        };
        let pretty = |line: &str| line.strip_prefix("PRETTY_NAME=").map(|name| name.trim_matches('"').to_owned());
        let machine_id = read("/etc/machine-id").trim().to_owned();
        let info = NodeInfo {
            system_uuid: machine_id.clone(),
            machine_id,
            boot_id,
            kernel_version: text(nix::sys::utsname::UtsName::release),
            os_image: read("/etc/os-release").lines().find_map(pretty).unwrap_or_default(),
            operating_system: std::env::consts::OS.to_owned(),
            architecture: architecture(std::env::consts::ARCH).to_owned(),
            kubelet_version: format!("v{}", env!("CARGO_PKG_VERSION")),
            container_runtime_version: format!("appm://{}", env!("CARGO_PKG_VERSION")),
            kube_proxy_version: String::new(),
        };
        let mut capacity = BTreeMap::new();
        if let Ok(cores) = std::thread::available_parallelism() {
            capacity.insert("cpu".to_owned(), cores.to_string());
        }
        capacity.insert("memory".to_owned(), format!("{}Ki", memory().total_bytes / 1024));
        capacity.insert("pods".to_owned(), MOST_PODS.to_owned());
        Self { name: node_name(&text(nix::sys::utsname::UtsName::nodename)), info, capacity }
    }
}

/// Go's word for an architecture, as Kubernetes uses it.
fn architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
