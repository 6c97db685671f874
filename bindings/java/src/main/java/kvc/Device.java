package kvc;

import kvc.raw.kvc_device;

/** Where a cache or a buffer lives. */
public enum Device {
  DEFAULT(kvc_device.KVC_DEVICE_DEFAULT),
  CPU(kvc_device.KVC_CPU),
  CUDA(kvc_device.KVC_CUDA);

  final kvc_device raw;

  Device(kvc_device raw) { this.raw = raw; }
}
