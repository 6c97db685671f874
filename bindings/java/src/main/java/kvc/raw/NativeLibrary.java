package kvc.raw;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * Finds libkvc_java, and with it libkvc, in this order: the folder that the property {@code kvc.library.path} names, and then nowhere
 * else; {@code java.library.path}; the jar's own folder {@code /<os>/<arch>/}.
 */
final class NativeLibrary {
  private static final String PROPERTY = "kvc.library.path", BRIDGE = "kvc_java";

  private NativeLibrary() {}

  static void load() {
    List<String> tried = new ArrayList<>();
    String folder = System.getProperty(PROPERTY);
    boolean loaded = folder != null ? fromFolder(Path.of(folder), tried) : fromPath(tried) || fromJar(tried);
    if (!loaded) throw new UnsatisfiedLinkError("kvc: " + System.mapLibraryName(BRIDGE) + " was not loaded. Tried:" + String.join("", tried));
  }

  /** A folder that was asked for is taken or refused: another library than the one meant would be worse than none. */
  private static boolean fromFolder(Path folder, List<String> tried) {
    Path file = folder.toAbsolutePath().resolve(System.mapLibraryName(BRIDGE));
    try {
      System.load(file.toString());
      return true;
    } catch (UnsatisfiedLinkError e) {
      return failed(tried, "property " + PROPERTY, file + ": " + e.getMessage());
    }
  }

  private static boolean fromPath(List<String> tried) {
    failed(tried, "property " + PROPERTY, "not set");
    try {
      System.loadLibrary(BRIDGE);
      return true;
    } catch (UnsatisfiedLinkError e) {
      return failed(tried, "java.library.path", System.getProperty("java.library.path") + ": " + e.getMessage());
    }
  }

  private static boolean fromJar(List<String> tried) {
    String folder = "/" + os() + "/" + arch() + "/";
    Path unpacked = null;
    try {
      unpacked = Files.createTempDirectory("kvc-");
      for (String name : new String[] {"kvc", BRIDGE}) { // libkvc first: the bridge finds it loaded, by its soname
        Path file = unpacked.resolve(System.mapLibraryName(name));
        try (InputStream in = NativeLibrary.class.getResourceAsStream(folder + file.getFileName())) {
          if (in == null) return failed(tried, "jar " + folder, file.getFileName() + " is not in it");
          Files.copy(in, file);
        }
        System.load(file.toString());
      }
      return true;
    } catch (IOException | UnsatisfiedLinkError e) {
      return failed(tried, "jar " + folder, e.toString());
    } finally {
      remove(unpacked);
    }
  }

  /** What is loaded stays loaded without its file; where a system locks the file, it stays until somebody cleans up. */
  private static void remove(Path unpacked) {
    if (unpacked == null) return;
    for (String name : new String[] {"kvc", BRIDGE}) unpacked.resolve(System.mapLibraryName(name)).toFile().delete();
    unpacked.toFile().delete();
  }

  private static boolean failed(List<String> tried, String place, String why) {
    tried.add("\n  " + place + ": " + why);
    return false;
  }

  private static String os() {
    String name = System.getProperty("os.name").toLowerCase(Locale.ROOT);
    return name.startsWith("mac") ? "macos" : name.startsWith("win") ? "windows" : name.replace(' ', '_');
  }

  private static String arch() {
    String name = System.getProperty("os.arch").toLowerCase(Locale.ROOT);
    return name.equals("x86_64") ? "amd64" : name;
  }
}
