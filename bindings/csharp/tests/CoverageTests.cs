using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Text;
using Kvc;
using Kvc.Raw;

/// <summary>The classes of the namespace Kvc leave nothing of kvc.h out, and reach it through the generated layer alone.</summary>
static class CoverageTests {
  const BindingFlags All =
      BindingFlags.Instance | BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;
  // Native code does not call back into a managed run time: the allocator is left out, by decision.
  static readonly HashSet<string> leftOut = new HashSet<string> {"struct_size", "reserved", "allocate", "release", "allocator_context"};

  static Type[] Types => typeof(Cache).Assembly.GetTypes();

  internal static string Pascal(string name) =>
      string.Concat(name.Split('_').Where(word => word.Length > 0).Select(word => char.ToUpperInvariant(word[0]) + word.Substring(1)));

  // Every method of the raw layer that some method of the namespace Kvc calls or takes as a delegate.
  static HashSet<string> Called() {
    var called = new HashSet<string>();
    foreach (Type type in Types.Where(type => type.Namespace == "Kvc"))
      foreach (MethodBase method in type.GetMethods(All).Cast<MethodBase>().Concat(type.GetConstructors(All)))
        AddCalls(method, called);
    return called;
  }

  static void AddCalls(MethodBase method, HashSet<string> called) {
    byte[] code = method.GetMethodBody()?.GetILAsByteArray() ?? new byte[0];
    for (int i = 0; i + 4 < code.Length; i++) {
      bool isCall = code[i] == 0x28, isDelegate = i > 0 && code[i - 1] == 0xfe && code[i] == 0x06;
      int token = BitConverter.ToInt32(code, i + 1);
      if (!(isCall || isDelegate) || token >> 24 != 6) continue;   // 6: a method of this assembly
      try {
        MethodBase target = method.Module.ResolveMethod(token);
        if (target.DeclaringType == typeof(kvc)) called.Add(target.Name);
      } catch (ArgumentException) {
        // Bytes that only look like a call.
      }
    }
  }

  static IEnumerable<string> Functions() {
    foreach (string line in Program.Header.Split('\n')) {
      int end = line.IndexOf('(');
      if (!line.StartsWith("KVC_API ", StringComparison.Ordinal) || end < 0) continue;
      yield return line.Substring(0, end).Split(' ', '*').Last();
    }
  }

  public static void EveryFunctionIsCalled() {
    string[] functions = Functions().Where(name => !name.EndsWith("_init", StringComparison.Ordinal)).ToArray();
    Check.That(functions.Length > 50, "the header was not understood");
    HashSet<string> called = Called();
    string missing = string.Join(" ", functions.Where(name => !called.Contains(name)));
    Check.Equal("", missing, "functions that no class calls");
  }

  // Lines: struct NAME SIZE ; field NAME OFFSET BYTES TYPE ; ...
  static IEnumerable<KeyValuePair<string, string[]>> Structs() {
    foreach (string line in Discovery.AbiDescription.Split('\n')) {
      string[] words = line.Split(' ');
      if (words[0] != "struct") continue;
      var fields = words.Zip(words.Skip(1), (word, next) => word == "field" ? next : null).Where(name => name != null && !leftOut.Contains(name));
      yield return new KeyValuePair<string, string[]>(words[1], fields.ToArray());
    }
  }

  // The class that stands for each struct.
  static Dictionary<string, Type> Wrappers() {
    var wrappers = new Dictionary<string, Type>();
    foreach (Type type in Types.Where(type => type.Namespace == "Kvc")) {
      FieldInfo raw = type.GetField("raw", All);
      if (raw != null) wrappers.Add(raw.FieldType.Name, type);
    }
    return wrappers;
  }

  /// <summary>Each class that stands for a struct, and the struct's fields.</summary>
  internal static Dictionary<Type, string[]> WrappersAndFields() {
    Dictionary<string, Type> wrappers = Wrappers();
    return Structs().Where(one => wrappers.ContainsKey(one.Key)).ToDictionary(one => wrappers[one.Key], one => one.Value);
  }

  public static void EveryFieldIsAProperty() {
    Dictionary<string, Type> wrappers = Wrappers();
    wrappers.Add("kvc_error", typeof(KvcException));
    var missing = new StringBuilder();
    foreach (KeyValuePair<string, string[]> one in Structs()) {
      if (!wrappers.TryGetValue(one.Key, out Type wrapper)) {
        missing.Append(one.Key).Append(' ');
        continue;
      }
      foreach (string field in one.Value.Where(field => wrapper.GetProperty(Pascal(field)) == null))
        missing.Append(one.Key).Append('.').Append(field).Append(' ');
    }
    Check.Equal("", missing.ToString(), "structs and fields without a class or property");
  }

  // Lines: enum NAME ENUMERATOR VALUE
  public static void EveryEnumeratorIsThere() {
    int seen = 0;
    foreach (string line in Discovery.AbiDescription.Split('\n')) {
      string[] words = line.Split(' ');
      if (words[0] != "enum" || words[2].EndsWith("_MAX_", StringComparison.Ordinal)) continue;
      seen++;
      Type type = typeof(Cache).Assembly.GetType("Kvc." + Pascal(words[1].Substring("kvc_".Length)));
      Check.That(type != null && type.IsEnum, words[1] + " has no enum");
      Check.That(Enum.IsDefined(type, int.Parse(words[3])), words[2] + " is missing in " + type);
    }
    Check.That(seen > 30, "the description was not understood");
  }

  public static void EveryStatusHasItsException() {
    foreach (Status status in Enum.GetValues(typeof(Status))) {
      if (status == Status.Ok) continue;
      var made = (KvcException)KvcException.Of((int)status, "kvc_x", "text");
      Check.Equal("Kvc" + (status == Status.Io ? "IO" : status.ToString()) + "Exception", made.GetType().Name, "class of " + status);
      Check.Equal(status, made.Status, "status");
      Check.Equal("kvc_x", made.Operation, "operation");
      Check.Equal("text", made.Message, "message");
    }
    Check.That(KvcException.Of(999, "kvc_x", "text") is InvalidOperationException, "an unknown status passed for a known one");
  }

  // What SWIG cannot express, by name; everything else goes through kvcPINVOKE.
  public static void NoOtherImports() {
    var known = new HashSet<string> {
      "NativeLoader.dlopen", "NativeLoader.dlerror", "NativeLoader.mono_dllmap_insert", "NativeOrigin.KvcLoadedFrom",
      "CacheHandle.KvcReleaseCache", "GraphHandle.KvcReleaseGraph", "SequenceHandle.KvcReleaseSequence", "StepHandle.KvcReleaseStep", "BufferHandle.KvcReleaseBuffer"
    };
    var found = Imports(Types.Where(type => type != typeof(kvcPINVOKE) && type.DeclaringType != typeof(kvcPINVOKE)));
    Check.Equal(string.Join(" ", known.OrderBy(name => name)), found, "imports");
  }

  // The replayer and the examples show how the classes are used: they know no library themselves.
  public static void ProgramsImportNothing() {
    string own = Assembly.GetExecutingAssembly().Location;
    string[] programs = Directory.GetFiles(Path.GetDirectoryName(own), "*.exe").Where(path => path != own).ToArray();
    foreach (string name in new[] {"replay_csharp", "append_attend", "budget_evict", "devices", "prefix_fork", "snapshot"})
      Check.That(programs.Any(path => Path.GetFileNameWithoutExtension(path) == name), "no program " + name + " beside the tests");
    foreach (string program in programs) Check.Equal("", Imports(Assembly.LoadFrom(program).GetTypes()), "imports of " + program);
    Check.That(Imports(Assembly.GetExecutingAssembly().GetTypes()).Contains("HotPathTests.witness_seen"), "the tests' own imports were not found");
  }

  static string Imports(IEnumerable<Type> types) => string.Join(" ",
      (from type in types from method in type.GetMethods(All) where (method.Attributes & MethodAttributes.PinvokeImpl) != 0
       select type.Name + "." + method.Name).Distinct().OrderBy(name => name));
}
