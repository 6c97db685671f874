using System;
using System.IO;
using System.Reflection;
using System.Threading;
using Kvc;

/// <summary>
/// kvc_tests KVC_H [short|long] [WORD]: runs every public static method of every class *Tests, or those with the word in their names,
/// and prints "N passed, N failed".
/// kvc_tests load [PATH]: prints which library is loaded, or why none is.
/// </summary>
static class Program {
  /// <summary>The header whose functions and structs the classes must cover.</summary>
  internal static string Header;

  /// <summary>How many times longer storms last.</summary>
  internal static int Long = 1;

  static int Main(string[] arguments) {
    if (arguments.Length > 0 && arguments[0] == "load") return Load(arguments.Length > 1 ? arguments[1] : null);
    Header = File.ReadAllText(arguments[0]);
    if (arguments.Length > 1 && arguments[1] == "long") Long = 20;
    int passed = 0, failed = 0;
    foreach (Type type in Assembly.GetExecutingAssembly().GetTypes()) {
      if (!type.Name.EndsWith("Tests", StringComparison.Ordinal)) continue;
      foreach (MethodInfo test in type.GetMethods(BindingFlags.Static | BindingFlags.Public | BindingFlags.DeclaredOnly)) {
        string name = type.Name + "." + test.Name;
        if (arguments.Length > 2 && !name.Contains(arguments[2])) continue;
        Exception fault = Run(test);
        if (fault == null) {
          passed++;
        } else {
          failed++;
          Console.WriteLine("FAILED " + name + ": " + fault);
        }
      }
    }
    Console.WriteLine(passed + " passed, " + failed + " failed");
    return failed == 0 && passed > 0 ? 0 : 1;
  }

  // On a thread of its own, whose stack is gone when the test ends: mono's collector takes what it finds there for references.
  static Exception Run(MethodInfo test) {
    Exception fault = null;
    var body = (Action)Delegate.CreateDelegate(typeof(Action), test);
    var thread = new Thread(() => {
      try {
        body();
      } catch (Exception e) {
        fault = e;
      }
    });
    thread.Start();
    thread.Join();
    return fault;
  }

  static int Load(string path) {
    try {
      if (path != null) Library.Path = path;
      Library.Load();
      Console.WriteLine(Library.LoadedFrom);
      return 0;
    } catch (DllNotFoundException e) {
      Console.WriteLine(e.Message);
      return 3;
    }
  }
}
